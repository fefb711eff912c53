"""Trains the statistics (`src/regrow/rules/statistics.tsv`), and measures what they are worth on libraries left out.

    python -m tools.train_statistics            train on everything, write the file
    python -m tools.train_statistics --check    leave an eighth of the libraries out, eight times; print what was right

Multinomial logistic regression, AdaGrad, no library needed. The data and their sources: tests/labels/README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regrow.adapters.rules import build_rulebook, example_cause, packaged, read_entries
from regrow.capture import causes_from_text
from regrow.classify import Model, Rulebook, classify
from regrow.classify.verdict import facts_of, weighed
from regrow.model import CATEGORIES

ROOT = Path(__file__).parents[1]
LABELS = ROOT / "tests" / "labels"
FILE = ROOT / "src" / "regrow" / "rules" / "statistics.tsv"

KEYS = tuple(CATEGORIES)
#: How much a line counts: what somebody met, what we wrote down from memory, what a rule gives as its example.
REAL, WRITTEN, EXAMPLE = 1.0, 0.7, 0.5
_SHORT = {"N": 0, "S": 1, "T": 2, "D": 3, "C": 4, "B": 5, "U": 6}
_EPOCHS = 15
_RATE = 0.5
_SHRINK = 1e-4
_SCALE = 1 / 32
#: Of two defensible labels, the first counts so much.
_FIRST = 0.65


@dataclass(frozen=True, slots=True)
class Line:
    """One labelled failure.

    Args:
        library: Whose words they are; a fold leaves whole libraries out.
        exception_type: Class name, '' where unknown.
        message: Its text.
        traceback: The end of its traceback, or ''.
        labels: Keys of the categories that are right, best first.
        weight: How much it counts.
        language: `en` or `zh`.
    """

    library: str
    exception_type: str
    message: str
    traceback: str
    labels: tuple[str, ...]
    weight: float = REAL
    language: str = "en"


def real(folder: Path = LABELS) -> Iterator[Line]:
    """Failures that somebody met."""
    for file in sorted(folder.glob("*.jsonl")):
        for text in file.read_text("utf-8").splitlines():
            row = json.loads(text)
            said = (row["library"], row["exception_type"], row["message"], row["traceback"])
            yield Line(*said, labels=tuple(row["labels"]), language=row["language"])


def written(folder: Path = LABELS) -> Iterator[Line]:
    """Failures that we wrote down from memory: for training only."""
    for file in sorted(folder.glob("written_*.tsv")):
        for text in file.read_text("utf-8").splitlines():
            label, name, message = text.split("\t")
            yield Line("", name, message.replace("\\n", "\n"), "", (KEYS[_SHORT[label]],), WRITTEN)


def examples() -> Iterator[Line]:
    """The examples of our own patterns: for training only."""
    for entry in read_entries(packaged()):
        for example in entry.values.get("examples", ()) if entry.section == "patterns" else ():
            cause = example_cause(entry, example)
            yield Line("", cause.type, cause.message, "", (entry.values["category"],), EXAMPLE)


def looks(line: Line, rulebook: Rulebook) -> list[str]:
    """What the model sees of a failure."""
    causes = causes_from_text(line.exception_type, line.message, line.traceback)
    return weighed(causes, facts_of(causes, rulebook)[0])


def train(lines: Sequence[Line], seen: Sequence[Sequence[str]]) -> Model:
    """A model of these lines; the same ones give the same model."""
    counts = Counter(name for names in seen for name in names)
    known = {name: at for at, name in enumerate(sorted(name for name, times in counts.items() if times > 1))}
    width = range(len(KEYS))
    weights = [[0.0] * len(KEYS) for _ in known]
    squares = [[1e-6] * len(KEYS) for _ in known]
    rows = [
        ([known[name] for name in names if name in known], _wanted(line))
        for line, names in zip(lines, seen, strict=True)
    ]
    order = list(range(len(rows)))
    dice = random.Random(1)
    for _ in range(_EPOCHS):
        dice.shuffle(order)
        for at in order:
            places, wanted = rows[at]
            scale = 1 / math.sqrt(len(places) or 1)
            sums = [scale * sum(weights[place][i] for place in places) for i in width]
            top = max(sums)
            powers = [math.exp(one - top) for one in sums]
            whole = sum(powers)
            slope = [(powers[i] / whole - wanted[i]) * lines[at].weight * scale for i in width]
            for place in places:
                row, square = weights[place], squares[place]
                for i in width:
                    step = slope[i] + _SHRINK * row[i]
                    square[i] += step * step
                    row[i] -= _RATE * step / math.sqrt(square[i])
    return Model(KEYS, {name: tuple(weights[at]) for name, at in known.items()})


def _wanted(line: Line) -> list[float]:
    shares = (1.0,) if len(line.labels) == 1 else (_FIRST, 1 - _FIRST)
    wanted = [0.0] * len(KEYS)
    for key, share in zip(line.labels, shares, strict=False):
        wanted[KEYS.index(key)] += share
    return wanted


def write(model: Model, file: Path = FILE) -> None:
    """Keep a model as text; weights too small to matter are left out."""
    head = {
        "categories": model.categories,
        "scale": _SCALE,
        "guess": model.guess,
        "overrule": model.overrule,
        "retry": model.retry,
    }
    lines = [json.dumps(head)]
    for name, weights in sorted(model.weights.items()):
        numbers = [round(weight / _SCALE) for weight in weights]
        if max(map(abs, numbers)) > 1:
            lines.append("\t".join([name, *map(str, numbers)]))
    file.write_text("\n".join(lines) + "\n", "utf-8")


def fold_of(library: str, folds: int) -> int:
    """The fold that a library belongs to, the same on every machine."""
    return int(hashlib.sha256(library.encode()).hexdigest(), 16) % folds


def left_out(lines: Sequence[Line], rulebook: Rulebook, folds: int = 8) -> Iterator[tuple[Line, Model]]:
    """Each real line with a model that has seen nothing of its library."""
    more = [*written(), *examples()]
    seen = [looks(line, rulebook) for line in (*lines, *more)]
    everything = [*lines, *more]
    for fold in range(folds):
        keep = [at for at, line in enumerate(everything) if at >= len(lines) or fold_of(line.library, folds) != fold]
        model = train([everything[at] for at in keep], [seen[at] for at in keep])
        for line in lines:
            if fold_of(line.library, folds) == fold:
                yield line, model


def rulebook_without() -> Rulebook:
    """The packaged rules, without the statistics."""
    return build_rulebook(packaged(), keep=True)


def main(arguments: Iterable[str] | None = None) -> None:
    """Train and write, or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="leave libraries out and print what was got right")
    rulebook, lines = rulebook_without(), list(real())
    if parser.parse_args(None if arguments is None else list(arguments)).check:
        right = sum(
            classify(
                causes_from_text(one.exception_type, one.message, one.traceback), replace(rulebook, model=model)
            ).category.key
            in one.labels
            for one, model in left_out(lines, rulebook)
        )
        print(f"{right} of {len(lines)} right ({right / len(lines):.1%}), each by a model that never saw its library")
        return
    lines += [*written(), *examples()]
    model = train(lines, [looks(line, rulebook) for line in lines])
    write(model)
    print(f"{FILE.relative_to(ROOT)}: {len(model.weights)} features of {len(lines)} lines")


if __name__ == "__main__":
    main()
