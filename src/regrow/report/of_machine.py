"""What this machine's disk says about a set-up."""

from __future__ import annotations

from collections.abc import Iterator

from regrow.model import Finding, SetUp, Switches, Symptom
from regrow.ports import Words
from regrow.report.finding import app_name, fine, listed, problem, setting, size, span, warning

#: A spool that is fuller is nearly full.
FULL = 0.8


def of_machine(setup: SetUp, switches: Switches, _: Words) -> Iterator[Finding]:
    """Whether the folders can be written to, and what waits in the spool."""
    for folder in setup.folders:
        if folder.error:
            text = _("The folder {path} ({setting}) cannot be written to: {error}.")
            mend = _("give the user of the workers the right to write there, or set {setting} to another folder")
            yield problem(
                Symptom.FOLDER_NOT_WRITABLE,
                text.format(path=folder.path, setting=folder.setting, error=folder.error),
                mend.format(setting=folder.setting),
            )
    if setup.folders and not any(folder.error for folder in setup.folders):
        paths = _(", ").join(folder.path for folder in setup.folders)
        yield fine(Symptom.FOLDERS, _("The folders can be written to: {paths}.").format(paths=paths))
    yield from _spool(setup, switches, _)


def _spool(setup: SetUp, switches: Switches, _: Words) -> Iterator[Finding]:
    spool, app = setup.spool, app_name(setup)
    if spool.oldest_at is not None:
        text = _(
            "Failures wait in the spool {path}: {size}, the oldest file for {time}; the ledger has not taken them."
        )
        mend = _("mend the ledger; then a worker or dispatcher of this machine hands them in: regrow -A {app} run")
        time = span(max(0.0, (setup.now - spool.oldest_at).total_seconds()), _)
        yield warning(
            Symptom.SPOOL_WAITING,
            text.format(path=spool.path, size=size(spool.waiting_bytes), time=time),
            mend.format(app=app),
        )
    if spool.damaged_bytes:
        text = _("The spool {path} holds {size} of facts that cannot be replayed, put aside in its *.damaged files.")
        mend = _("keep a copy of {path}/*.damaged if you need them, then delete these files")
        yield warning(
            Symptom.SPOOL_DAMAGED,
            text.format(path=spool.path, size=size(spool.damaged_bytes)),
            mend.format(path=spool.path),
        )
    full, limit = spool.waiting_bytes + spool.damaged_bytes, switches.spool_limit_bytes
    if full > FULL * limit:
        text = _("The spool {path} is nearly full: {size} of {limit}; what comes beyond is only logged.")
        yield problem(
            Symptom.SPOOL_NEARLY_FULL,
            text.format(path=spool.path, size=size(full), limit=size(limit)),
            setting("spool_limit_bytes", str(2 * max(full, limit)), setup),
        )
    there = {
        one.name: one.spooled_bytes
        for one in setup.ledger.members
        if one.spooled_bytes and one.name.rpartition("@")[2] != setup.host
    }
    if there:
        text = _("Failures wait in the spools of other machines: {names}.")
        names = [_("{name} ({key})").format(name=name, key=size(count)) for name, count in there.items()]
        mend = _("see on these machines whether they reach the ledger: regrow -A {app} doctor")
        yield warning(Symptom.SPOOL_ELSEWHERE, text.format(names=listed(names, _)), mend.format(app=app))
