"""The guide in this folder is the user's, and nothing of it is left untested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.guide.printed import BLOCKS, GUIDE

HERE = Path(__file__).parent


def test_every_block_is_claimed_by_one_test() -> None:
    """A block that is added to the guide fails here until a test runs it; none is claimed twice."""
    claims: list[str] = []
    for file in HERE.glob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        names = dict(re.findall(r'^([A-Z_]+) = "(.+)"$', text, flags=re.MULTILINE))
        claims += [
            name[1:-1] if name.startswith('"') else names[name] for name in re.findall(r"^@runs\((.+)\)$", text, re.M)
        ]
    assert sorted(claims) == sorted(block.name for block in BLOCKS)


def test_every_fence_is_a_block() -> None:
    """The reader of blocks overlooks none, and no two have one name."""
    assert GUIDE.count("```") == 2 * len(BLOCKS)
    assert len({block.name for block in BLOCKS}) == len(BLOCKS)
    assert all(block.text in GUIDE for block in BLOCKS)


def test_it_is_the_guide_that_was_given() -> None:
    """Where the original lies beside the repository, the copy is the same to the letter."""
    original = HERE.parents[2] / "shared" / "spec" / "guide.zh.md"
    if not original.exists():
        pytest.skip("the guide's original is not on this machine")
    assert original.read_text(encoding="utf-8") == GUIDE
