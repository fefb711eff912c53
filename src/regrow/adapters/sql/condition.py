"""What the ledger says of itself, to whoever examines a set-up. Writes nothing and makes no file."""

from __future__ import annotations

from sqlalchemy import select

from regrow.adapters.sql.engine import Database
from regrow.adapters.sql.migrate import newest, revision_of
from regrow.adapters.sql.reads import SqlLedger
from regrow.errors import LedgerError, NotMigrated
from regrow.model import LedgerFacts
from regrow.ports import Clock

#: So many messages, and alerts, are looked at.
LIMIT = 1000


def ledger_facts(database: Database, clock: Clock) -> LedgerFacts:
    """How the ledger is."""
    place, needed = database.url.set(query={}).render_as_string(hide_password=True), newest()
    try:
        with database.read() as connection:
            revision = revision_of(connection)
            skew = 0.0
            if (its_clock := database.kind.now()) is not None:
                before = clock()
                theirs = connection.execute(select(its_clock)).scalar_one()
                # The answer was true somewhere between question and answer.
                skew = (before + (clock() - before) / 2 - theirs).total_seconds()
        if revision != needed:
            return LedgerFacts(place, "", revision, needed)
        ledger = SqlLedger(database)
        return LedgerFacts(
            place=place,
            revision=revision,
            needed=needed,
            balance=ledger.balance(clock()),
            read_at=clock(),
            members=tuple(ledger.members()),
            waiting=ledger.waiting(),
            refused=tuple(ledger.undelivered(limit=LIMIT)),
            alerts=tuple(ledger.alerts(limit=LIMIT)),
            skew_seconds=skew,
        )
    except NotMigrated:
        return LedgerFacts(place, "", None, needed)
    except LedgerError as error:
        return LedgerFacts(place, str(error), None, needed)
    finally:
        database.close()
