"""What is compared: one Celery application with nothing in it, with Regrow, or with Sentry's integration.

Each side lives in processes of its own, because both Regrow and Sentry change what they are put into. Workers import
this module (`celery -A benchmarks.sides`) and find in BENCH_SIDE which side they are.
"""

import json
import os
from dataclasses import asdict, dataclass
from itertools import count

from benchmarks import tasks


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Args:
        name: Its name, and that of its queue.
        kind: `plain`, `regrow` or `sentry`.
        mode: Regrow's mode.
        ledger: Regrow's database URL.
        logs: Folder for the log files that Regrow may write.
        broker: Broker's URL, for workers.
        backend: Result backend's URL.
    """

    name: str
    kind: str = "plain"
    mode: str = ""
    ledger: str = ""
    logs: str = ""
    broker: str = "memory://"
    backend: str = "cache+memory://"

    def environment(self):
        """What a process of this side gets: no setting of the machine's own, and which side it is."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAILURE_", "SENTRY_"))}
        return kept | {"BENCH_SIDE": json.dumps(asdict(self))}


def make(side):
    """The Celery application of a side."""
    from celery import Celery

    if side.kind == "sentry":
        put_sentry()
    app = Celery(f"bench-{side.name}", broker=side.broker, backend=side.backend)
    app.conf.update(
        task_default_queue=side.name,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=8,
        result_expires=None,
    )
    tasks.register(app)
    if side.kind == "regrow":
        import regrow

        regrow.install(app, mode=side.mode, database_url=side.ledger, logs_dir=side.logs)
    return app


def put_sentry():
    """Sentry as its manual says, but for the transport, which drops what it is given."""
    import sentry_sdk
    from sentry_sdk.integrations.celery import CeleryIntegration
    from sentry_sdk.transport import Transport

    class Dropping(Transport):
        def __init__(self, options=None):
            super().__init__(options)
            self.numbers = count(1)
            self.dropped = 0

        def capture_envelope(self, envelope):
            self.dropped = next(self.numbers)

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1", transport=Dropping, integrations=[CeleryIntegration()], release="bench"
    )


def recorded(side):
    """How many failures this side has taken in this process or ledger; None for a side that takes none."""
    if side.kind == "sentry":
        import sentry_sdk

        return sentry_sdk.get_client().transport.dropped
    if side.kind == "regrow":
        from sqlalchemy import create_engine, text

        with create_engine(side.ledger).connect() as connection:
            return connection.execute(text("select count(*) from regrow_attempt")).scalar()
    return None


if "BENCH_SIDE" in os.environ:
    import logging

    logging.disable(logging.CRITICAL)
    side = Side(**json.loads(os.environ["BENCH_SIDE"]))
    app = make(side)
