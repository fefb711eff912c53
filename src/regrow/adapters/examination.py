"""Collects the facts of a set-up, each part on its own: one that is down, or never answers, hides no other."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from celery import Celery
from kombu.utils.url import maybe_sanitize_url

from regrow.adapters.bounded import Question
from regrow.adapters.celery import inspection
from regrow.adapters.machine import folder_facts, spool_facts
from regrow.adapters.spool import Spool
from regrow.adapters.sql import Database
from regrow.adapters.sql.condition import ledger_facts
from regrow.model import BrokerFacts, FolderFacts, LedgerFacts, ResultsFacts, SetUp, SpoolFacts, WorkersFacts
from regrow.ports import Clock

#: How long each part may take before it counts as hanging; longer than its own time-outs, which say more.
SERVER_SECONDS = 8.0
LEDGER_SECONDS = 15.0
WORKERS_SECONDS = 12.0
DISK_SECONDS = 5.0

#: Words an exception as a part of a sentence.
Said = Callable[[BaseException], str]


def examine(
    app: Celery,
    name: str,
    *,
    database: Database,
    spool: Spool,
    folders: Mapping[str, Path],
    clock: Clock,
    redact: Callable[[str], str],
) -> SetUp:
    """All facts; takes seconds, and half a minute at most when everything hangs.

    Args:
        app: The Celery application.
        name: How the command line names it.
        database: The ledger's; closed afterwards.
        spool: This machine's.
        folders: The folders that Regrow writes to, by the setting that names each.
        clock: Tells the time.
        redact: Takes secrets out of the texts of errors.
    """
    said = partial(_said, redact)
    application = inspection.app_facts(app, name)
    broker, results = _broker(app, said), _results(app, said)
    broker, results = replace(broker, place=redact(broker.place)), replace(results, place=redact(results.place))
    with suppress(Exception):  # who asks the ledger says what is wrong
        _ = database.engine
    # All is imported by now: two threads that import what imports each other may find half of it. What may hang comes
    # next, all at the same time.
    ledger = Question(lambda: ledger_facts(database, clock))
    result = Question(lambda: inspection.reach_results(app))
    disks = {
        setting: Question(partial(folder_facts, f"FAILURE_{setting.upper()}", path))
        for setting, path in folders.items()
    }
    waiting = Question(lambda: spool_facts(spool))
    broker, workers = _reached(app, broker, clock, said)
    read = _ledger(ledger, database, said)
    return SetUp(
        now=read.read_at or clock(),
        host=socket.gethostname(),
        app=replace(application, error=redact(application.error)),
        ledger=read,
        broker=broker,
        workers=workers,
        results=results if results.error else _seen(results, result, said),
        folders=tuple(_folder(setting, folders[setting], asked, said) for setting, asked in disks.items()),
        spool=_spool(waiting, spool),
    )


def _broker(app: Celery, said: Said) -> BrokerFacts:
    try:
        return inspection.broker_facts(app)
    except Exception as error:
        return BrokerFacts(maybe_sanitize_url(str(app.conf.broker_url or "")), said(error))


def _reached(app: Celery, broker: BrokerFacts, clock: Clock, said: Said) -> tuple[BrokerFacts, WorkersFacts | None]:
    if broker.error:
        return broker, None
    try:
        Question(lambda: inspection.reach_broker(app)).answer(SERVER_SECONDS)
    except Exception as error:
        return replace(broker, error=said(error)), None
    try:
        return broker, Question(lambda: inspection.workers_facts(app, clock)).answer(WORKERS_SECONDS)
    except Exception as error:
        return broker, WorkersFacts(error=said(error))


def _results(app: Celery, said: Said) -> ResultsFacts:
    try:
        return inspection.results_facts(app)
    except Exception as error:
        return ResultsFacts(maybe_sanitize_url(str(app.conf.result_backend or "")), said(error))


def _seen(results: ResultsFacts, asked: Question[None], said: Said) -> ResultsFacts:
    try:
        asked.answer(SERVER_SECONDS)
    except Exception as error:
        return replace(results, error=said(error))
    return results


def _ledger(asked: Question[LedgerFacts], database: Database, said: Said) -> LedgerFacts:
    try:
        return asked.answer(LEDGER_SECONDS)
    except Exception as error:
        return LedgerFacts(database.url.set(query={}).render_as_string(hide_password=True), said(error))


def _folder(setting: str, path: Path, asked: Question[FolderFacts], said: Said) -> FolderFacts:
    try:
        return asked.answer(DISK_SECONDS)
    except Exception as error:
        return FolderFacts(f"FAILURE_{setting.upper()}", str(path.absolute()), said(error))


def _spool(asked: Question[SpoolFacts], spool: Spool) -> SpoolFacts:
    try:
        return asked.answer(DISK_SECONDS)
    except Exception:  # its folder says why
        return SpoolFacts(str(spool.folder))


def _said(redact: Callable[[str], str], error: BaseException) -> str:
    """An exception on one line, as a part of a sentence."""
    lines = str(error).strip().splitlines()
    return redact(lines[0]).rstrip(".") if lines else type(error).__name__
