"""How fast classification is: `python -m benchmarks.classify` (two minutes).

In each of several rounds every side reads the same texts, in random order; medians over the rounds. Texts are diverse: those of
tests/labels with random words put in. `re` is the loop of the guide (`for pattern in patterns: re.search(...)`), `engine` is the
pattern engine alone, `verdict` is all of it: text -> causes -> verdict.
"""

from __future__ import annotations

import random
import re
import resource
import statistics
import time

from regrow.adapters.patterns import compile_patterns
from regrow.adapters.rules import load_rulebook
from regrow.capture import causes_from_text
from regrow.classify import classify
from tools.train_statistics import real

ROUNDS, TEXTS, SLOW_TEXTS = 7, 4_000, 120


def texts(count: int) -> list[tuple[str, str, str]]:
    dice = random.Random(4)
    lines = list(real())
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    made = []
    for _ in range(count):
        line = dice.choice(lines)
        words = line.message.split(" ")
        for _ in range(dice.randint(2, 8)):
            words.insert(dice.randint(0, len(words)), "".join(dice.choices(letters, k=dice.randint(3, 10))))
        made.append((line.exception_type, " ".join(words), line.traceback))
    return made


def each(work, items) -> list[float]:
    """Seconds for each item."""
    taken = []
    for item in items:
        start = time.perf_counter()
        work(item)
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    rulebook = load_rulebook()
    every = [one.pattern for one in rulebook.patterns]
    dice = random.Random(5)
    items = texts(TEXTS)
    messages = [message for _, message, _ in items]
    print(f"{TEXTS} texts, {statistics.mean(map(len, messages)):.0f} characters each; {ROUNDS} rounds\n")
    sides = {}
    for count in (100, 1_000):
        chosen = random.Random(6).sample(every, count)
        engine = compile_patterns(chosen)
        loop = [re.compile(pattern, re.IGNORECASE) for pattern in chosen]
        sides[f"re loop, {count} patterns"] = (
            lambda text, loop=loop: [one for one in loop if one.search(text)],
            messages[:SLOW_TEXTS],
        )
        sides[f"engine, {count} patterns"] = (engine.hits, messages)
    sides[f"engine, all {len(every)}"] = (rulebook.matcher.hits, messages)
    sides[f"verdict, all {len(every)}"] = (lambda item: classify(causes_from_text(*item), rulebook, brief=True), items)
    found: dict[str, list[list[float]]] = {name: [] for name in sides}
    for work, some in sides.values():
        each(work, some[:200])
    for _ in range(ROUNDS):
        order = list(sides)
        dice.shuffle(order)
        for name in order:
            work, some = sides[name]
            found[name].append(each(work, some))
    print(f"{'':24}{'texts/s':>12}{'p50 us':>10}{'p99 us':>10}")
    for name, rounds in found.items():
        rate = statistics.median(len(one) / sum(one) for one in rounds)
        quantiles = [statistics.quantiles(one, n=100) for one in rounds]
        p50, p99 = (1e6 * statistics.median(one[at] for one in quantiles) for at in (49, 98))
        print(f"{name:24}{rate:>12,.0f}{p50:>10.1f}{p99:>10.1f}")
    print(
        f"this process at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, everything loaded"
    )


if __name__ == "__main__":
    main()
