"""`regrow rules`: what there is, what is wrong with it, what it would change; and rules in the ledger."""

# typer makes a flag of a boolean, however it is declared, and an option of each argument.
# ruff: noqa: FBT002, PLR0913, PLR0917

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.common import AsJson, complain, person
from regrow.errors import NotMigrated, SettingsError

if TYPE_CHECKING:
    from regrow.cli.rules_text import Listed
    from regrow.cli.session import Session
    from regrow.model import Lessons, OwnRule, RuleFile
    from regrow.teach import Trial

#: How often a rule has decided is counted over this time.
WINDOW = timedelta(days=7)

#: Name of a rule that is only tried.
TRIED = "tried"

Author = Annotated[str, typer.Option(metavar="NAME", help="Who does it, if not you.")]
Because = Annotated[str, typer.Option(metavar="TEXT", help="Why.")]
RuleId = Annotated[str, typer.Argument(metavar="ID", help="The rule's id.")]
Pattern = Annotated[str, typer.Option(metavar="REGEX", help="A regular expression; without lookaround.")]
CategoryKey = Annotated[str, typer.Option(metavar="KEY", help="The category that a hit means.")]
Proposal = Annotated[str, typer.Option(metavar="ID", help="A proposed rule, instead of a pattern.")]
Days = Annotated[float, typer.Option(min=0.01, max=365, help="How far back failures are tried.")]

rules = typer.Typer(
    help="Rules: which there are, what is wrong with them, what they would change; and rules in the ledger.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@rules.command("list")
def list_rules(
    context: typer.Context,
    source: Annotated[
        str, typer.Option("--from", metavar="SOURCE", help="Only those: built-in, file, ledger or proposed.")
    ] = "",
    json: AsJson = False,
) -> None:
    """All rules: your own first, then the built-in ones."""
    from regrow.cli.rules_text import show_rules
    from regrow.cli.text import to_json

    session: Session = context.obj
    sources = ("file", "ledger", "proposed", "built-in")
    if source not in ("", *sources):
        raise SettingsError(f"no such source: {source}; known are: {', '.join(sources)}")
    found = [one for one in _all(session) if source in ("", one.source)]
    if json:
        typer.echo(to_json({"rules": [asdict(one) for one in found]}, indent=2))
    else:
        show_rules(found, session.screen)


def _all(session: Session) -> list[Listed]:
    from regrow.cli.rules_text import Listed, listed
    from regrow.wiring import built_in_rules

    own = [listed(one) for one in (*session.school.file.rules, *_lessons(session).rules.values())]
    order = {"file": 0, "ledger": 1, "proposed": 2}
    own.sort(key=lambda one: order[one.source])
    ours = [
        Listed(one.id, "built-in", "live", one.category, " | ".join(one.patterns), one.author)
        for one in built_in_rules()
    ]
    return [*own, *ours]


def _lessons(session: Session) -> Lessons:
    """What the ledger holds; nothing, for one that is not set up or of an older version."""
    from regrow.model import Lessons

    try:
        return session.school.lessons()
    except NotMigrated:
        return Lessons()


@rules.command("show")
def show_rule(context: typer.Context, rule: RuleId, json: AsJson = False) -> None:
    """All of one rule, and how often it decided in the last 7 days."""
    from regrow.cli import rules_text
    from regrow.cli.text import to_json
    from regrow.wiring import built_in_rules

    session: Session = context.obj
    _ = session.words
    mine = {one.id: one for one in (*session.school.file.rules, *_lessons(session).rules.values())}
    ours = {one.id: one for one in built_in_rules()}
    found = mine.get(rule) or ours.get(rule)
    if found is None:
        complain(_("no rule with the id {id}; regrow rules list shows those there are").format(id=rule))
        raise typer.Exit(1)
    source = rules_text.listed(found).source if rule in mine else "built-in"
    try:
        decided = session.ledger.decided([rule], session.now() - WINDOW).get(rule, 0)
    except NotMigrated:
        decided = 0
    if json:
        typer.echo(to_json({**asdict(found), "source": source, "decided": decided}, indent=2))
        return
    screen = session.screen
    facts = (
        (_("Rule"), found.id),
        (_("From"), session.school.file.path if found.from_file else rules_text.source_name(source, _)),
        (_("State"), rules_text.state_name(found.state, _)),
        (_("Category"), found.category),
        (_("Patterns"), "\n".join(found.patterns)),
        (_("Author"), found.author),
        (_("Note"), found.note),
        (_("Since"), screen.moment(found.at)),
        (_("Last changed by"), found.changed_by),
        (_("Decided"), _("{n} failed runs in the last 7 days").format(n=decided)),
    )
    examples = ((_("Must match"), found.must_match), (_("Must not match"), found.must_not_match))
    rules_text.show_rule(facts, examples, screen)


@rules.command()
def lint(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="A file of rules; that of the settings if none.")] = "",
    json: AsJson = False,
) -> None:
    """What is wrong with a file of rules.

    Its form, its patterns, its examples. It also names the built-in examples that your rules would change. Exit code 1
    if something is wrong.
    """
    from regrow.cli.text import to_json
    from regrow.errors import RuleError
    from regrow.wiring import check_file, overlaps

    session: Session = context.obj
    _ = session.words
    path = Path(file or session.settings.rules_file)
    if not file and not path.exists() and "rules_file" not in session.settings.model_fields_set:
        typer.echo(_("There is no file of rules at {path}.").format(path=path))
        return
    try:
        read, wrong = check_file(path)
    except RuleError as error:
        wrong, found, bare = str(error).splitlines(), [], []
    else:
        found = overlaps(read)
        bare = [one.id for one in read.rules if not one.must_match]
    if json:
        answer = {"file": str(path), "wrong": wrong, "overlaps": [asdict(one) for one in found], "no_example": bare}
        typer.echo(to_json(answer, indent=2))
    else:
        for line in wrong:
            complain(line)
        for one in found:
            text = _("{rule} would change the built-in example {example}: {before} ({built_in}) -> {after}")
            session.screen.print(text.format(**{**asdict(one), "example": repr(one.example)}))
        for name in bare:
            session.screen.print(_("{rule} has no must_match: add an error message that it is for").format(rule=name))
        if not wrong:
            session.screen.print(_("{path}: nothing is wrong.").format(path=path))
    raise typer.Exit(1 if wrong else 0)


@rules.command("try")
def try_rules(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="A file of rules, instead of the one in force.")] = "",
    pattern: Pattern = "",
    category: CategoryKey = "",
    proposal: Proposal = "",
    days: Days = 7,
    json: AsJson = False,
) -> None:
    """What rules would have changed in the last days.

    Nothing is written. Give a FILE, or --pattern with --category, or --proposal.
    """
    from regrow.cli.rules_text import show_trial, trial_json
    from regrow.cli.text import to_json

    session: Session = context.obj
    if [bool(file), bool(pattern or category), bool(proposal)].count(True) != 1 or bool(pattern) != bool(category):
        raise SettingsError("give a FILE, or --pattern with --category, or --proposal ID")
    if file:
        trial = _tried(session, [], days, json=json, file=_good_file(Path(file)))
    else:
        rule = _rule(session, pattern, category) if pattern else _proposed(session, proposal)
        trial = _tried(session, [rule], days, json=json)
    if json:
        typer.echo(to_json(trial_json(trial, days), indent=2))
    else:
        show_trial(trial, days, session.screen)


def _good_file(path: Path) -> RuleFile:
    from regrow.errors import RuleError
    from regrow.wiring import check_file

    read, wrong = check_file(path)
    if wrong:
        raise RuleError("\n".join(wrong))
    return read


def _rule(session: Session, pattern: str, category: str) -> OwnRule:
    """A rule of one pattern to try, checked."""
    from regrow.model import OwnRule

    rule = OwnRule(TRIED, category, (pattern,))
    session.school.checked(rule, _lessons(session))
    return rule


def _proposed(session: Session, proposal: str) -> OwnRule:
    from regrow.errors import RuleError
    from regrow.model import RuleState

    rule = _lessons(session).rules.get(proposal)
    if rule is None or rule.state not in (RuleState.PROPOSED, RuleState.REFUSED):
        raise RuleError(f"no rule {proposal!r} is proposed; `regrow rules list --from proposed` shows those that are")
    return rule


def _tried(
    session: Session, tried: Sequence[OwnRule], days: float, *, json: bool, file: RuleFile | None = None
) -> Trial:
    screen, _ = session.screen, session.words

    def seen(number: int) -> None:
        if not json and not screen.piped:
            screen.progress(_("tried on {n} failures").format(n=number))

    trial = session.school.trial(tried, days=days, file=file, seen=seen)
    if not json:
        screen.end_progress()
    return trial


@rules.command()
def add(
    context: typer.Context,
    pattern: Pattern = "",
    category: CategoryKey = "",
    proposal: Proposal = "",
    name: Annotated[str, typer.Option("--id", metavar="ID", help="The rule's id; one is made if you give none.")] = "",
    must_match: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="An error that it is for; may be given more than once.")
    ] = None,
    must_not_match: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="One that it is not for; may be given more than once.")
    ] = None,
    author: Author = "",
    because: Because = "",
    days: Days = 7,
    yes: Annotated[bool, typer.Option("--yes", help="Even if it starts retries of business or data failures.")] = False,
    json: AsJson = False,
) -> None:
    """Add a rule to the ledger; running workers follow within seconds.

    It is tried first, and what it would have changed is shown. One that would start retries of failures that are
    business or data failures now is added with --yes only.
    """
    from regrow.cli.rules_text import rule_json, show_trial, trial_json
    from regrow.cli.text import to_json
    from regrow.model import OwnRule

    session: Session = context.obj
    _ = session.words
    if bool(proposal) == bool(pattern or category) or bool(pattern) != bool(category):
        raise SettingsError("give --pattern with --category, or --proposal ID")
    by = author or person()
    examples = tuple(must_match or ()), tuple(must_not_match or ())
    rule = _proposed(session, proposal) if proposal else OwnRule("", category, (pattern,), author=by)
    rule = replace(
        rule,
        id=name or proposal or _made_up(pattern, category),
        must_match=(*rule.must_match, *examples[0]),
        must_not_match=(*rule.must_not_match, *examples[1]),
        note=because or rule.note,
    )
    _check_id(rule.id)
    session.school.checked(rule, _lessons(session))
    trial = _tried(session, [rule], days, json=json)
    refused = bool(trial.risky) and not yes
    added = None if refused else session.school.add(rule, by=by, because=because, proposal=proposal)
    if json:
        answer = {"added": not refused, "rule": rule_json(added or rule), "trial": trial_json(trial, days)}
        typer.echo(to_json(answer, indent=2))
    else:
        show_trial(trial, days, session.screen)
        if not refused:
            text = _("The rule {id} counts from now on; running workers follow within seconds.")
            session.screen.print(text.format(id=rule.id))
    if refused:
        complain(_("the rule was not added: it would start retries of business or data failures; add --yes if it may"))
        raise typer.Exit(1)


def _made_up(pattern: str, category: str) -> str:
    """An id that the same rule gets each time."""
    from hashlib import sha256

    return f"{category[:40]}.{sha256(pattern.encode()).hexdigest()[:8]}"


def _check_id(name: str) -> None:
    from regrow.wiring import built_in_rules, id_fault

    if why := id_fault(name):
        raise SettingsError(f"--id {name}: {why}")
    if name in {one.id for one in built_in_rules()}:
        raise SettingsError(f"--id {name}: a built-in rule has this id; take another")


@rules.command()
def disable(
    context: typer.Context, rule: RuleId, author: Author = "", because: Because = "", json: AsJson = False
) -> None:
    """Take a rule of the ledger out of force.

    A proposed one is refused, and not proposed again.
    """
    _switch(context, rule, author, because, on=False, json=json)


@rules.command()
def enable(
    context: typer.Context, rule: RuleId, author: Author = "", because: Because = "", json: AsJson = False
) -> None:
    """Put a rule that was disabled into force again.

    One that was refused is proposed again.
    """
    _switch(context, rule, author, because, on=True, json=json)


def _switch(context: typer.Context, rule: str, author: str, because: str, *, on: bool, json: bool) -> None:
    from regrow.cli.rules_text import rule_json
    from regrow.cli.text import to_json
    from regrow.model import RuleState

    session: Session = context.obj
    _ = session.words
    now = session.school.switch(rule, on=on, by=author or person(), because=because)
    texts = {
        RuleState.LIVE: _("The rule {id} counts again; running workers follow within seconds."),
        RuleState.DISABLED: _("The rule {id} is disabled; running workers follow within seconds."),
        RuleState.PROPOSED: _("The rule {id} is proposed again."),
        RuleState.REFUSED: _("The rule {id} is refused."),
    }
    typer.echo(to_json(rule_json(now), indent=2) if json else texts[now.state].format(id=rule))
