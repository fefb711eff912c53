"""The guide's own text: its fenced blocks, by heading, as they are printed.

`guide.zh.txt` is a copy of what the user gave; a test never writes a block down a second time. It does not end in
`.md`, because `ruff format` would then tidy the user's own code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

GUIDE = Path(__file__).with_name("guide.zh.txt").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Args:
        chapter: The heading `##` over it, without its marks.
        title: The heading `###` over it.
        language: What stands behind the fence.
        text: What is printed.
    """

    chapter: str
    title: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """How tests call it."""
        return f"{self.chapter}/{self.title}"


def _blocks() -> list[Block]:
    found = []
    for chapter in re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]:
        heading, *parts = re.split(r"^### ", chapter, flags=re.MULTILINE)
        for part in parts:
            title = part.partition("\n")[0]
            for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL):
                found.append(Block(heading.partition("\n")[0].strip(), title.strip(), language, text))
    return found


BLOCKS = _blocks()


def text_of(name: str) -> str:
    """What a block prints.

    Args:
        name: Its chapter and title, as in the guide: `使用方法/2. 手动恢复特定任务`.
    """
    (block,) = (block for block in BLOCKS if block.name == name)
    return block.text


def runs(name: str) -> pytest.MarkDecorator:
    """Marks the test that executes a block and asserts its promise; gives it the text as `printed`."""
    number = [block.name for block in BLOCKS].index(name) + 1
    return pytest.mark.parametrize("printed", [text_of(name)], ids=[f"block{number}"])


def commands(printed: str) -> list[str]:
    """The lines of a bash block that do something, with their comments."""
    return [line for line in printed.splitlines() if line.strip() and not line.startswith("#")]


def chapter(title: str) -> str:
    """The text under a heading of any level, up to the next heading."""
    (found,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", GUIDE, flags=re.MULTILINE | re.DOTALL)
    return str(found)
