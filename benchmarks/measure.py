"""Shuffled rounds, medians, spreads."""

import os
import platform
import random
import statistics
from datetime import date

ROUNDS = 9


def rounds(subjects, number=ROUNDS):
    """What each subject returned, each called once in each round, each round in another order.

    Args:
        subjects: Functions by key.
        number: How many rounds.
    """
    results = {key: [] for key in subjects}
    for _ in range(number):
        for key in random.sample(list(subjects), len(subjects)):
            results[key].append(subjects[key]())
    return results


def extra(subject, baseline):
    """By how much a subject is dearer, round by round."""
    return [one - other for one, other in zip(subject, baseline, strict=True)]


def ratio(subject, baseline):
    """How many times as dear a subject is, round by round."""
    return [one / other for one, other in zip(subject, baseline, strict=True)]


def entry(name, values, middle=None):
    """A line of the results.

    Args:
        name: Of the figure.
        values: Its value in each round.
        middle: The figure itself, if it is not the median of the values.
    """
    return {
        "name": name,
        "ratio": round(statistics.median(values) if middle is None else middle, 3),
        "rounds": len(values),
        "spread": [round(min(values), 3), round(max(values), 3)],
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
