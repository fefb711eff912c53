"""A small linear model for what no plain sentence, code or class settles: words, their pairs, and weak facts.

It is a softmax over a weight for each feature and category. The weights are text (`rules/statistics.tsv`), made by
`tools/train_statistics.py` from labelled failures; what they are worth is measured by `make evaluate` on libraries that
were left out of the training (docs/accuracy.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: Longest text that is read, in characters.
_TEXT_LIMIT = 1_000
_FACTS_LIMIT = 12
#: Features that are no words of the text.
_INNER = ("rule ", "fact ", "best ", "bias", "nothing", "class ", "type ")
#: Longest stem of a word, in letters: `connection` and `connections` are one.
_STEM = 6
# `HTTPSConnection` -> `HTTPS`, `Connection`.
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[\u4e00-\u9fff]+")
# Ids, hashes, dates: letters in them are no words, and differ from run to run.
_NUMBERED = re.compile(r"(?<![A-Za-z0-9_\-])[A-Za-z0-9_\-]*\d[A-Za-z0-9_\-]*")


@dataclass(frozen=True, slots=True)
class Model:
    """What training found.

    Args:
        categories: Keys of the categories, in the order of the weights.
        weights: Feature to one weight for each category.
        guess: Least probability at which its answer counts, where no fact speaks.
        overrule: Least probability at which it beats a weak fact.
        retry: Least probability at which its answer alone may start a retry.
    """

    categories: tuple[str, ...]
    weights: Mapping[str, Sequence[float]]
    guess: float = 0.4
    overrule: float = 0.85
    retry: float = 0.95

    def judge(self, features: Sequence[str]) -> list[float]:
        """The probability of each category, in the order of `categories`."""
        found = [weights for name in features if (weights := self.weights.get(name)) is not None]
        sums = [sum(column) for column in zip(*found, strict=True)] or [0.0] * len(self.categories)
        scale = math.sqrt(len(found) or 1)
        top = max(sums)
        powers = [math.exp((one - top) / scale) for one in sums]
        whole = sum(powers)
        return [power / whole for power in powers]

    def because(self, features: Sequence[str], category: str, limit: int = 4) -> list[str]:
        """The features that speak most for a category, best first."""
        at = self.categories.index(category)
        speaks = [(weights[at], name) for name in features if (weights := self.weights.get(name)) is not None]
        speaks.sort(reverse=True)
        return [name for weight, name in speaks[: 2 * limit] if weight > 0 and not name.startswith(_INNER)][:limit]


def features(name: str, message: str, facts: Sequence[tuple[int, str, str]]) -> list[str]:
    """What a model looks at: words and pairs of words, those of the class's name apart, and weak facts.

    Args:
        name: The last part of the exception's class name, '' where unknown.
        message: Its text, in simplified Chinese (`script.simplified`).
        facts: (rank, category, rule) of what was found, best first.
    """
    found = ["bias", "class " + name]
    found += ["type " + word[:_STEM].lower() for word in _WORD.findall(name)]
    for line in _NUMBERED.sub(" ", message[:_TEXT_LIMIT]).split("\n"):
        words = _WORD.findall(line)
        stems = [word[:_STEM].lower() for word in words]
        found += stems
        found += map(" ".join, pairwise(stems))
        if not line.isascii():
            for word in words:
                if not word.isascii():
                    found += [word[at : at + size] for size in (1, 2, 3) for at in range(len(word) - size + 1)]
    for rank, category, rule in facts[:_FACTS_LIMIT]:
        found.append("rule " + rule)
        found.append(f"fact {rank // 10} {category}")
    found.append(f"best {facts[0][0] // 10} {facts[0][1]}" if facts else "nothing")
    return list(dict.fromkeys(found))
