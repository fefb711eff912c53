"""How text gets to a terminal or a pipe: colours, widths, times, tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from regrow.cli.text import plain
from regrow.model import State
from regrow.ports import Words

#: A pipe has no width of its own, and whoever reads from it wants whole lines.
PIPE_WIDTH = 4096

#: Below this width four columns leave too little for what a failure says.
NARROW = 72

STATE_STYLES = {
    State.NEW: "cyan",
    State.SCHEDULED: "cyan",
    State.DISPATCHED: "cyan",
    State.HELD: "yellow",
    State.HANDED_OVER: "yellow",
    State.RECOVERED: "green",
    State.EXHAUSTED: "red",
    State.DISMISSED: "dim",
}


class Screen:
    """The reader's terminal, or the pipe behind it.

    Args:
        words: The reader's language.
        now: The instant that times are compared with.
        timezone: The reader's time zone, None for the machine's.
    """

    def __init__(self, words: Words, now: datetime, timezone: str | None = None) -> None:
        self.words = words
        self.now = now
        self.zone = ZoneInfo(timezone) if timezone else None
        # No markup: a task may be called `[red]x`.
        self._console = Console(markup=False, emoji=False, highlight=False)
        self.piped = not self._console.is_terminal
        if self.piped and "COLUMNS" not in os.environ:
            self._console.width = PIPE_WIDTH
        self.narrow = self._console.width < NARROW

    def print(self, what: RenderableType = "", *, wrap: bool = True) -> None:
        """Print; without `wrap` long lines are left to the terminal, so that they are copied whole."""
        if not self.piped:
            self._console.print(what, soft_wrap=not wrap)
            return
        with self._console.capture() as captured:
            self._console.print(what, soft_wrap=not wrap)
        # Tables fill their last column with blanks, which only a terminal hides.
        lines = captured.get().removesuffix("\n").split("\n")
        self._console.print(Text("\n".join(line.rstrip() for line in lines)), soft_wrap=True)

    def progress(self, text: str) -> None:
        """Say how far it is: on a terminal in place of what was said before, in a pipe on a line of its own."""
        if self.piped:
            self.print(text)
            return
        line = Text(plain(text))
        line.truncate(self._console.width - 1, overflow="ellipsis")
        sys.stdout.write(f"\r\x1b[K{line.plain}")
        sys.stdout.flush()

    def end_progress(self) -> None:
        """Take the line of the progress away."""
        if not self.piped:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()

    def heading(self, title: str, style: str = "bold") -> None:
        """Print a line that begins a section."""
        self.print(Text(plain(title), style=style), wrap=True)

    def facts(self, rows: Iterable[tuple[str, str | Text]]) -> None:
        """Print labelled facts under one another; empty ones are left out."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for label, fact in rows:
            if fact:
                grid.add_row(Text(label), fact if isinstance(fact, Text) else Text(plain(fact)))
        self.print(Padding(grid, (0, 0, 0, 2), expand=False))

    def table(
        self,
        titles: Sequence[str],
        rows: Iterable[Sequence[str | RenderableType]],
        *,
        numbers: Sequence[int] = (),
    ) -> None:
        """Print a table; the columns at `numbers` are set to the right, the last one takes what is left."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
        for place, title in enumerate(titles):
            last = place == len(titles) - 1
            right = "right" if place in numbers else "left"
            table.add_column(Text(title), justify=right, no_wrap=not last, overflow="fold")  # type: ignore[arg-type]
        for row in rows:
            table.add_row(*(Text(plain(cell)) if isinstance(cell, str) else cell for cell in row))
        self.print(Padding(table, (0, 0, 0, 2), expand=False))

    def remark(self, text: str) -> None:
        """Say something beside the data, where it does not get into a pipe."""
        if self.piped:
            sys.stderr.write(f"{text}\n")
        else:
            self.print(Text(f"\n  {text}", "dim"))

    def moment(self, at: datetime | None, *, short: bool = False) -> str:
        """An instant in the reader's time zone; `short` leaves out the current year."""
        if at is None:
            return ""
        local = at.astimezone(self.zone)
        this_year = local.year == self.now.astimezone(self.zone).year
        return f"{local:%m-%d %H:%M:%S}" if short and this_year else f"{local:%Y-%m-%d %H:%M:%S}"

    def zone_name(self) -> str:
        """The reader's time zone, e.g. `Asia/Shanghai, UTC+08:00`."""
        local = self.now.astimezone(self.zone)
        name = self.zone.key if self.zone else local.tzname()
        offset = f"{local:%z}"
        return f"{name}, UTC{offset[:3]}:{offset[3:5]}"

    def until(self, at: datetime) -> str:
        """How far away an instant is, e.g. `in 28 s`, `5 min ago`."""
        _ = self.words
        seconds = (at - self.now).total_seconds()
        far = self.span(abs(seconds))
        return (_("in {time}") if seconds >= 0 else _("{time} ago")).format(time=far)

    def span(self, seconds: float) -> str:
        """A duration, in the largest unit that leaves two of it or more."""
        _ = self.words
        for unit, form in ((86_400, _("{n} d")), (3_600, _("{n} h")), (60, _("{n} min"))):
            if seconds >= 2 * unit:
                return form.format(n=int(seconds // unit))
        return _("{n} s").format(n=int(seconds))


def state_meaning(state: State, _: Words) -> str:
    """What it means that a failure stands in a state."""
    return {
        State.NEW: _("recorded, nothing decided yet"),
        State.SCHEDULED: _("waits for its next retry"),
        State.HELD: _("could run again, but a person must say so"),
        State.HANDED_OVER: _("a person was told; it is not tried again by itself"),
        State.DISPATCHED: _("a retry is on its way or running"),
        State.RECOVERED: _("a retry succeeded"),
        State.EXHAUSTED: _("no retries are left; the administrator was told"),
        State.DISMISSED: _("a person said: leave it"),
    }[state]
