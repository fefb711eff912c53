"""What the demo prints: a line when something happens, a table, the checks. The same in a terminal and in a pipe."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from app.demo import plot
from app.demo.plot import Scene
from app.demo.watch import News
from regrow import notify
from regrow.cli.show import equation
from regrow.model import CATEGORIES, Action, AttemptRecord, Audience, Balance, Deed, Record, State
from regrow.ports import Words
from regrow.report import Target

#: Stands for a blank at which no line is broken; rich breaks at the no-break space as well.
_FIRM = "\N{OPEN BOX}"

#: From this width on a progress line has columns of its own for the failure and for what was done about it.
_WIDE = 110

#: A pipe has no width of its own; and on a wider screen the eye would lose the line.
_WIDEST = 120

#: As many are printed of what a check has found.
_MOST_PROBLEMS = 5

_END_STYLES = {
    State.RECOVERED: "green",
    State.HANDED_OVER: "yellow",
    State.HELD: "yellow",
    State.EXHAUSTED: "red",
}
_PARTS = (
    {plot.PLAIN: ".get()", plot.HEAD: "chain", plot.TAIL: "chain", plot.BODY: "chord"}
    | dict.fromkeys(plot.MEMBERS, "chord")
    | dict.fromkeys((plot.CUT_HEAD, plot.CUT_TAIL), "chain")
)


class Show:
    """Prints, in the reader's language.

    Args:
        say: The demo's own words.
        words: Regrow's words.
        seconds: Time since the demo began.
    """

    def __init__(self, say: Words, words: Words, seconds: Callable[[], float]) -> None:
        self.say = say
        self.words = words
        self.seconds = seconds
        self._console = Console(markup=False, emoji=False, highlight=False)
        fixed = self._console.is_terminal or "COLUMNS" in os.environ
        self._console.width = min(self._console.width, _WIDEST) if fixed else _WIDEST
        self._wide = self._console.width >= _WIDE

    # -- while it runs ----------------------------------------------------------------------------------------------

    def title(self, text: str) -> None:
        """Print a heading."""
        self._print(Text(text, "bold"))

    def step(self, text: str) -> None:
        """Print what the demo itself does."""
        self._line(Text(text, "bold"))

    def alarm(self, text: str) -> None:
        """Print what it does harm with."""
        self._line(Text(text, "bold red"))

    def happened(self, news: News) -> None:
        """Print what has happened to a task."""
        name = self._name(news.scene)
        if news.run is not None:
            self._line(name, Text(what(news.run)), self._deed(news.record, news.run))
        elif news.record.state is State.RECOVERED:
            text = self.say("recovered: run {n} has succeeded").format(n=news.record.attempts + 1)
            self._line(name, Text(text, "green"))

    def returned(self, scene: Scene, answer: object) -> None:
        """Print that a waiting call has come back."""
        raised = isinstance(answer, BaseException)
        text = self.say("{part}: .get() has raised {what}" if raised else "{part}: .get() has returned {what}")
        part = _PARTS[scene] if scene is not plot.PLAIN else self.say("task")
        said = text.format(part=part, what=repr(answer))
        self._line(self._name(scene), Text(said, "red" if raised else "bold green"))

    def _deed(self, record: Record, run: AttemptRecord) -> Text:
        why = notify.name(run.category, self.words)
        if run.action == Action.RETRY and run.retry_at is not None:
            seconds = (run.retry_at - (run.decided_at or run.failed_at)).total_seconds()
            return Text(self.say("{why}; again in {n} s").format(why=why, n=f"{seconds:.0f}"), "cyan")
        if run.action == Action.GIVE_UP:
            return Text(self.say("no retries left, administrator told"), "red")
        if run.action == Action.HOLD:
            return Text(self.say("its work may be done already: held, administrator told"), "yellow")
        to_user = bool(record.user_id) and CATEGORIES[run.category].audience is Audience.USER
        text = self.say("{why}; user told" if to_user else "{why}; administrator told")
        return Text(text.format(why=why), "yellow")

    def _line(self, *parts: Text) -> None:
        """The time, then the parts in columns that stand under one another from line to line."""
        names, rest = parts[:-1][:1], parts[1:] or parts
        if not self._wide:
            rest = (Text(": ").join(rest),)
        grid = Table.grid(padding=(0, 2 if self._wide else 1, 0, 0))
        grid.add_column(width=5, justify="right")
        for width in (29, 22)[: len(names) + len(rest) - 1]:
            grid.add_column(width=width)
        grid.add_column(overflow="fold")
        grid.add_row(Text(f"{self.seconds():.0f} s", "dim"), *names, *rest)
        self._print(grid)

    # -- after it ---------------------------------------------------------------------------------------------------

    def summary(self, records: Mapping[Scene, Record], departments: Mapping[Scene, str], succeeded: int) -> None:
        """Print what became of each task that failed.

        Args:
            records: What the ledger says.
            departments: Who else was told, by task.
            succeeded: How many tasks have never failed.
        """
        table = Table(box=None, pad_edge=False, padding=(0, 2 if self._wide else 1, 0, 0), header_style="bold")
        for title in ("Task", "", "What failed", "Category", "What was done", "End"):
            table.add_column(self.say(title), overflow="fold")
        for scene in plot.SCENES:
            if scene in records:
                part = Text(_PARTS.get(scene, ""), "dim")
                table.add_row(self._name(scene), part, *self._row(records[scene], departments.get(scene, "")))
        self._print()
        self._print(table)
        self._print(Text(self.say("{n} more tasks succeeded at once").format(n=succeeded), "dim"))

    def _row(self, record: Record, department: str) -> Sequence[Text]:
        told = {"user": "user told", "administrator": "administrator told"}.get(record.history[-1].told, "")
        done = [told, department]
        by_hand = any(note.deed is Deed.RETRIED for note in record.notes)
        if record.retries:
            one = "1 retry by hand" if by_hand else "1 retry"
            retries = self.say(one if record.retries == 1 else "{n} retries").format(n=record.retries)
            done = [*done, retries] if by_hand else [retries, *done]
        end = self.say(record.state.value.replace("_", " "))
        return (
            Text(what(record.history[-1])),
            Text(self.say(record.category.rpartition("_")[2])),
            Text(self.say(", ").join(self.say(one) for one in done if one)),
            Text(end, _END_STYLES.get(record.state, "bold red")),
        )

    def ledger(self, balance: Balance, place: str) -> None:
        """Print the ledger equation."""
        self._print()
        self._print(self._title(self.say("Ledger")).append(f" {place}", "not bold"))
        # A narrow terminal breaks the line between two terms, never within one.
        terms = " + ".join(term.replace(" ", _FIRM) for term in equation(balance).split(" + "))
        self._print(Padding(Text(terms, "green" if balance.balanced else "bold red"), (0, 0, 0, 2)))

    def targets(self, targets: Sequence[Target]) -> None:
        """Print the figures beside their targets."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(4):
            grid.add_column(overflow="fold")
        for one in targets:
            mark = {True: Text(self.say("met"), "green"), False: Text(self.say("missed"), "red"), None: Text()}
            grid.add_row(Text(f"  {one.text}"), Text(one.shown), Text(one.target, "dim"), mark[one.met])
        self._print()
        self._print(self._title(self.say("Targets")))
        self._print(grid)

    def check(self, text: str, problems: Sequence[str]) -> None:
        """Print one check."""
        mark = Text(self.say("FAILED"), "bold red") if problems else Text(self.say("ok"), "green")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=6)
        grid.add_column()
        said = Text(self.say(text))
        for problem in problems[:_MOST_PROBLEMS]:
            said.append(f"\n{problem}", "red")
        if len(problems) > _MOST_PROBLEMS:
            said.append(f"\n... {len(problems) - _MOST_PROBLEMS}", "red")
        grid.add_row(mark, said)
        self._print(grid)

    def gap(self) -> None:
        """Print an empty line."""
        self._print()

    def listing(self, title: str, lines: Sequence[str]) -> None:
        """Print lines under a title, each whole, so that commands can be pasted."""
        self._print()
        self._print(self._title(title))
        for line in lines:
            self._print(Text(f"  {line}"), wrap=False)

    def end(self, text: str, *, good: bool) -> None:
        """Print the last line."""
        self._print()
        self._print(Text(text, "bold green" if good else "bold red"))

    def _title(self, text: str) -> Text:
        return Text(self.say("{title}:").format(title=text), "bold")

    def _name(self, scene: Scene) -> Text:
        return Text(f"{scene.task} {scene.subject}")

    def _print(self, thing: RenderableType = "", *, wrap: bool = True) -> None:
        with self._console.capture() as captured:
            self._console.print(thing, soft_wrap=not wrap)
        # Tables fill their lines with blanks, which only a terminal hides.
        for line in captured.get().removesuffix("\n").split("\n"):
            print(line.replace(_FIRM, " ").rstrip(), flush=True)


def what(run: AttemptRecord) -> str:
    """How a run failed, in short: the HTTP status if there was one, else the root cause's class."""
    verdict = json.loads(run.verdict)
    for evidence in (verdict, *verdict.get("runners_up", ())):
        if evidence["layer"] == "code" and evidence["matched"].startswith("http "):
            return str(evidence["matched"]).upper()
    return (str(verdict.get("root_cause", "")).partition(":")[0] or run.exception_type).rpartition(".")[2]
