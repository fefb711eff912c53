"""How often classification is right on real failures whose library the statistics have never seen (`make evaluate`).

Prints accuracy, precision of retries, unsafe and missed retries, what each category and language gets, what is mistaken
for what, and whether a confidence means what it says. Ends with 1 if a figure falls below tests/labels/recorded.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from regrow.capture import causes_from_text
from regrow.classify import classify
from regrow.model import CATEGORIES, Verdict
from tools.train_statistics import LABELS, Line, left_out, real, rulebook_without

RECORDED = LABELS / "recorded.json"
#: A figure may fall by so much before it is an error: a changed line or two is no loss.
SLACK = 0.004

_SHORT = {key: key.rpartition("_")[2] for key in CATEGORIES}
_RETRY = frozenset(key for key, category in CATEGORIES.items() if category.retry)


@dataclass(frozen=True, slots=True)
class Judged:
    """One labelled failure and what was said of it.

    Args:
        line: The failure.
        verdict: By rules and by statistics that never saw its library.
        plain: By rules alone.
    """

    line: Line
    verdict: Verdict
    plain: Verdict

    @property
    def right(self) -> bool:
        """True if it is one of the labels that are defensible."""
        return self.verdict.category.key in self.line.labels

    @property
    def retries(self) -> bool:
        """True if the verdict starts a retry."""
        return self.verdict.category.retry and not self.verdict.caution


def judge() -> list[Judged]:
    """Every real failure, judged."""
    rulebook = rulebook_without()
    judged = []
    for line, model in left_out(list(real()), rulebook):
        causes = causes_from_text(line.exception_type, line.message, line.traceback)
        judged.append(Judged(line, classify(causes, replace(rulebook, model=model)), classify(causes, rulebook)))
    return judged


def figures(judged: Sequence[Judged]) -> dict[str, float]:
    """The figures of one set of failures, as shares of 1; higher is better."""
    started = [one for one in judged if one.retries]
    safe = [one for one in started if _RETRY.intersection(one.line.labels)]
    healable = [one for one in judged if _RETRY.issuperset(one.line.labels)]
    return {
        "accuracy": _share(sum(one.right for one in judged), len(judged)),
        "rules_alone": _share(sum(one.plain.category.key in one.line.labels for one in judged), len(judged)),
        "retry_precision": _share(len(safe), len(started)),
        "not_unsafe": 1 - _share(len(started) - len(safe), len(judged)),
        "not_missed": _share(sum(one.retries for one in healable), len(healable)),
        "decided": _share(sum(one.verdict.layer != "none" for one in judged), len(judged)),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _show_figures(judged: Sequence[Judged]) -> None:
    print(f"{'':22}{'texts':>7}{'right':>9}{'rules':>9}{'retries':>9}{'unsafe':>9}{'missed':>9}{'decided':>9}")
    print(f"{'':22}{'':>7}{'':>9}{'alone':>9}{'right':>9}{'':>9}{'':>9}{'':>9}")
    sets = {"all": list(judged)}
    for language in sorted({one.line.language for one in judged}):
        sets[f"language {language}"] = [one for one in judged if one.line.language == language]
    for key in CATEGORIES:
        sets[_SHORT[key]] = [one for one in judged if one.line.labels[0] == key]
    for name, part in sets.items():
        found = figures(part)
        shares = (
            found["accuracy"],
            found["rules_alone"],
            found["retry_precision"],
            1 - found["not_unsafe"],
            1 - found["not_missed"],
            found["decided"],
        )
        print(f"{name:22}{len(part):>7}" + "".join(f"{share:>9.1%}" for share in shares))


def _show_confusion(judged: Sequence[Judged]) -> None:
    print("\nFirst label (rows) against what was said (columns); a second defensible label counts as the first")
    counts: Counter[tuple[str, str]] = Counter()
    for one in judged:
        said = one.verdict.category.key
        counts[one.line.labels[0] if not one.right else said, said] += 1
    print(f"{'':22}" + "".join(f"{_SHORT[key]:>11}" for key in CATEGORIES))
    for row in CATEGORIES:
        print(f"{_SHORT[row]:22}" + "".join(f"{counts[row, column] or '.':>11}" for column in CATEGORIES))


def _show_confidence(judged: Sequence[Judged]) -> None:
    print("\nWhat a confidence is worth, by the kind of fact that decided")
    print(f"{'':22}{'texts':>7}{'said':>9}{'right':>9}")
    for layer in dict.fromkeys(one.verdict.layer for one in judged):
        part = [one for one in judged if one.verdict.layer == layer]
        said = sum(one.verdict.confidence for one in part) / len(part)
        print(f"{layer:22}{len(part):>7}{said:>9.1%}{_share(sum(one.right for one in part), len(part)):>9.1%}")
    for low, high in ((0.0, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        part = [one for one in judged if one.verdict.layer == "statistics" and low <= one.verdict.confidence < high]
        if part:
            said = sum(one.verdict.confidence for one in part) / len(part)
            right = _share(sum(one.right for one in part), len(part))
            print(f"  statistics {low:.1f} - {min(high, 1):.1f}{len(part):>10}{said:>9.1%}{right:>9.1%}")


def _show_unsafe(judged: Sequence[Judged]) -> None:
    unsafe = [one for one in judged if one.retries and not _RETRY.intersection(one.line.labels)]
    print(f"\nRetries that should not have been: {len(unsafe)}")
    for one in unsafe:
        said = " ".join(f"{one.line.exception_type}: {one.line.message}".split())[:100]
        print(f"  {_SHORT[one.line.labels[0]]:10} by {one.verdict.rule}: {said}")


def below(found: dict[str, float], recorded: dict[str, float]) -> list[str]:
    """The figures that are lower than those that were recorded, as sentences."""
    return [
        f"{name} is {found[name]:.1%}, recorded are {value:.1%}"
        for name, value in recorded.items()
        if found[name] < value - SLACK
    ]


def main(arguments: Iterable[str] | None = None) -> int:
    """Evaluate, print, compare with what was recorded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", action="store_true", help="record the figures of today")
    options = parser.parse_args(None if arguments is None else list(arguments))
    judged = judge()
    _show_figures(judged)
    _show_confusion(judged)
    _show_confidence(judged)
    _show_unsafe(judged)
    found = figures(judged)
    if options.record:
        RECORDED.write_text(json.dumps({name: round(value, 4) for name, value in found.items()}, indent=2) + "\n")
    worse = below(found, json.loads(RECORDED.read_text("utf-8")))
    for sentence in worse:
        print(f"worse: {sentence}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
