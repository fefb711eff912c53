"""What fails, and why (G12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from regrow.model import Breakdown, type_of
from regrow.ports import Words

#: A task type that has two thirds of at least so many failures is worth a line of its own.
DOMINANT_FAILURES = 3

#: More causes than this with one and the same share: none stands out, so there is nothing to advise.
MAIN_CAUSES = 2


def analysis(breakdown: Breakdown, *, days: int, retryable: Collection[str], _: Words) -> dict[str, Any]:
    """The report on a period: what failed and why, and what follows from it.

    Args:
        breakdown: The period's failures by kind.
        days: Its length.
        retryable: Keys of the categories that time can heal.
    """
    period = _("1 day") if days == 1 else _("{n} days").format(n=days)
    categories = _largest_first(breakdown.by_category)
    types: Counter[str] = Counter()
    for name, count in breakdown.by_task.items():
        types[type_of(name)] += count
    task_types = _largest_first(types)
    return {
        "success": True,
        "analysis_period": period,
        "total_failures": sum(categories.values()),
        "category_distribution": categories,
        "task_type_failures": task_types,
        "insights": _insights(categories, task_types, breakdown.previous, period, retryable, _),
    }


def _largest_first(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: n for name, n in sorted(counts.items(), key=lambda one: (-one[1], one[0])) if n}


def _insights(
    categories: Mapping[str, int],
    task_types: Mapping[str, int],
    previous: int,
    period: str,
    retryable: Collection[str],
    _: Words,
) -> list[str]:
    total = sum(categories.values())
    if not total:
        insights = [_("No task failed in the last {period}").format(period=period)]
        return [*insights, _("In the period before, {n} failed").format(n=previous)] if previous else insights
    most = max(categories.values())
    main = [category for category, count in categories.items() if count == most]
    healing = sum(count for category, count in categories.items() if category in retryable)
    return [
        *_what(main, task_types, most, total, _),
        _recoverable(healing, total, _),
        *_trend(previous, total, _),
        *(_advice(category, _) for category in main if len(main) <= MAIN_CAUSES),
    ]


def _what(main: Sequence[str], task_types: Mapping[str, int], most: int, total: int, _: Words) -> list[str]:
    """The main cause, and the task type that most failures are of."""
    top = next(iter(task_types), "")
    if total == 1:
        return [_("Only one task failed: {type}, because of {category}").format(type=top, category=main[0])]
    if len(main) == 1:
        cause = _("The main cause is {category}, {share} of the failures")
    else:
        cause = _("The most frequent causes are {category}, each {share} of the failures")
    insights = [cause.format(category=_(", ").join(main), share=_percent(most, total))]
    if total >= DOMINANT_FAILURES and 3 * task_types.get(top, 0) >= 2 * total:
        share = _percent(task_types[top], total)
        insights.append(_("{share} of the failures are of the task type {type}").format(share=share, type=top))
    return insights


def _recoverable(healing: int, total: int, _: Words) -> str:
    if total == 1:
        return _("It can be recovered automatically") if healing else _("A person must act on it")
    if not healing:
        return _("None of the failures can be recovered automatically: people must act")
    return _("{share} of the failures can be recovered automatically").format(share=_percent(healing, total))


def _trend(previous: int, total: int, _: Words) -> list[str]:
    """A line if the number of failures has changed by more than chance explains, else none.

    Two counts of the same thing differ by chance by about the root of their sum; twice that is rare.
    """
    if not previous or abs(total - previous) <= 2 * (total + previous) ** 0.5:
        return []
    change = f"{abs(total - previous) / previous:.0%}"
    if total > previous:
        trend = _("{change} more failures than in the period before ({previous} → {total})")
    else:
        trend = _("{change} fewer failures than in the period before ({previous} → {total})")
    return [trend.format(change=change, previous=previous, total=total)]


def _advice(category: str, _: Words) -> str:
    return {
        "recoverable_network": _("Check the stability of the network and the availability of the APIs"),
        "recoverable_system": _("Check memory, disk space, open files and permissions on the workers' machines"),
        "recoverable_temporary": _("Check the load and the limits of databases and services that tasks depend on"),
        "unrecoverable_data": _("Check the input of tasks before they are sent, and the code that reads it"),
        "unrecoverable_config": _("Check API keys, credentials and settings"),
        "unrecoverable_business": _("Check users' requests before tasks are sent, and tell users what is possible"),
        "unknown": _("Look at the tracebacks of unknown failures and add patterns for them"),
    }.get(category, _("Look at these failures: regrow failures --category {category}").format(category=category))


def _percent(part: int, whole: int) -> str:
    """A share for people; never 0 % of something, and never 100 % of less than all."""
    share = 100 * part / whole
    if 0 < part < whole:
        share = min(max(share, 0.1), 99.9)
    return f"{round(share, 1):g}%"
