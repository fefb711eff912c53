"""What Regrow records and does for every way in which a task can fail, in every pool: the table of docs/doors.md.

`python -m tests.integration.doors` runs it all and writes the table; tests/integration/test_doors.py compares.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kombu import Producer

from regrow.model import Record
from tests.celery_worker import QUICK, Site, new_key, site, until
from tests.integration.proj_site import PREFIX

POOLS = ("prefork", "solo", "threads")
PAGE = Path(__file__).parents[2] / "docs" / "doors.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"

#: Two retries are enough to see each of them end. The lease is longer than billiard may take to find that a child is gone.
SETTINGS = {**QUICK, "max_recovery_attempts": 2, "lease_seconds": 12, "track_starts": True}

Send = Callable[[Site, str], str]


@dataclass(frozen=True)
class Row:
    """One way to fail.

    Args:
        name: Short name.
        words: What happens, for the table.
        send: Sends such a task under a key; returns its id, '' if it has none.
        kills: Pools in which it ends the whole worker.
        final: States of the ledger in which it comes to rest; nothing at all if there are none.
        skipped: Pools in which it cannot happen.
    """

    name: str
    words: str
    send: Send
    final: tuple[str, ...] = ("recovered",)
    kills: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def task(name: str, *more: object, **options: object) -> Send:
    """Sends the task of this short name."""

    def send(made: Site, key: str) -> str:
        return str(made.sig(name, key, *more).apply_async(**options).id)

    return send


def publish(made: Site, body: object, **options: object) -> None:
    """Put a message into the queue as it is."""
    with made.app.connection_for_write() as connection:
        Producer(connection).publish(body, exchange="", routing_key=made.name, **options)


def unknown(made: Site, key: str) -> str:
    return str(made.app.send_task(f"{PREFIX}nowhere", (key,), task_id=key).id)


def refused(made: Site, key: str) -> str:
    return str(made.sig("flaky", key, 0).apply_async(serializer="pickle").id)


def undecodable(made: Site, key: str) -> str:
    headers = {"id": key, "task": f"{PREFIX}flaky", "lang": "py", "argsrepr": "('x',)"}
    publish(made, b"{not json", content_type="application/json", content_encoding="utf-8", headers=headers)
    return key


def no_task(made: Site, key: str) -> str:
    publish(made, {"hello": key}, serializer="json")
    return ""


def revoked(made: Site, key: str) -> str:
    made.app.control.revoke(key)
    until(lambda: key in (made.app.control.inspect(timeout=1).revoked() or {"": []}).popitem()[1], "the revocation")
    return str(made.sig("flaky", key, 0).apply_async(task_id=key).id)


def wrong_arguments(made: Site, key: str) -> str:
    return str(made.app.send_task(f"{PREFIX}flaky", (key, 0, 1, 2, 3, 4)).id)


_PARENTS = ("solo", "threads")
_GONE = ("handed_over",)
ROWS = (
    Row("heals", "an exception that time can heal", task("flaky", 1)),
    Row("never_heals", "one that never heals: all retries are used up", task("flaky", 99), ("exhausted",)),
    Row("broken", "an exception that no time can heal", task("broken"), _GONE),
    Row("arguments", "wrong arguments (TypeError)", wrong_arguments, _GONE),
    Row("native", "native retries (`self.retry`, `autoretry_for`), not exhausted", task("auto", 1), ()),
    Row("native_exhausted", "native retries exhausted, with a cause", task("auto", 3)),
    Row("native_no_cause", "native retries exhausted, without a cause", task("exhausts"), _GONE),
    Row("soft", "soft time limit", task("soft", 1), skipped=_PARENTS),
    Row("soft_idempotent", "the same, declared idempotent", task("soft_idempotent", 1), skipped=_PARENTS),
    Row("hard", "hard time limit", task("ends_hard"), ("held",), skipped=_PARENTS),
    Row("hard_idempotent", "the same, declared idempotent", task("ends_hard_idempotent", 1), skipped=_PARENTS),
    Row("killed", "the process killed (SIGKILL, want of memory, `os._exit`)", task("ends_kill"), ("held",), _PARENTS),
    Row("exited", "`os._exit` in the task", task("ends_exit"), ("held",), _PARENTS),
    Row("sysexit", "`sys.exit` in the task", task("ends_sysexit"), ("held",), ("solo",)),
    Row("interrupt", "KeyboardInterrupt in the task", task("ends_interrupt"), ("held",), ("solo",)),
    Row("killed_late", "the process killed, `acks_late`", task("ends_kill_late"), ("held",), _PARENTS),
    Row(
        "killed_idempotent",
        "the process killed once, declared idempotent",
        task("ends_kill_idempotent", 1),
        kills=_PARENTS,
    ),
    Row(
        "killed_again",
        "the process killed each time, declared idempotent",
        task("ends_kill_idempotent"),
        ("exhausted",),
        skipped=_PARENTS,
    ),
    Row(
        "requeued",
        "`acks_late` and `reject_on_worker_lost`, killed once",
        task("ends_kill_requeued", 1),
        (),
        skipped=_PARENTS,
    ),
    Row("poison", "the same, killed each time", task("ends_kill_requeued"), ("exhausted",), skipped=_PARENTS),
    Row("rejected", "`Reject(requeue=False)`", task("ends_reject"), _GONE),
    Row("ignored", "`Ignore`", task("ends_ignore"), ()),
    Row("unknown", "a task that no worker knows", unknown, _GONE),
    Row("refused", "a content type that is refused (pickle)", refused, _GONE),
    Row("undecodable", "a body that cannot be decoded", undecodable, _GONE),
    Row("no_task", "a message that is no task", no_task, _GONE),
    Row("expired", "expired before a worker took it", task("flaky", 0, expires=-1), _GONE),
    Row("revoked", "revoked by a person", revoked, ()),
    Row("result", "a result that cannot be serialised", task("unserialisable"), _GONE),
    Row("unpicklable", "an exception that cannot be pickled", task("odd", 1, "unpicklable")),
)

Sent = dict[str, tuple[Row, str, str]]


def observe(pool: str) -> dict[str, str]:
    """Run every row in a pool; return what became of it, by the row's name."""
    seen: dict[str, str] = {row.name: "—" for row in ROWS if pool in row.skipped}
    rows = [row for row in ROWS if pool not in row.skipped]
    conf = {"accept_content": ["json"], "result_accept_content": ["json"]}
    # On brokers without an event loop billiard's children share a lock; one that is killed while it holds it stops them
    # all, with or without Regrow.
    kind = "redis" if pool == "prefork" else "files"
    with tempfile.TemporaryDirectory() as folder, site(Path(folder), kind, regrow=SETTINGS, conf=conf) as made:
        made.dispatcher_process()
        sent: Sent = {}
        for row in rows:
            if pool in row.kills:
                worker = made.worker(pool=pool)
                sent |= send(made, row)
                until(lambda one=worker: one.popen.poll() is not None, f"the death of the worker by {row.name}")
        made.worker(pool=pool, children=4)
        for row in rows:
            if pool not in row.kills:
                sent |= send(made, row)
        for row, key, task_id in sent.values():
            seen[row.name] = rest(made, row, key, task_id)
        seen["worker"], seen["worker_untracked"] = worker_killed(made, pool)
        assert made.balance().balanced
        assert made.balance().parked == sum(
            text.startswith("held") and "not in a" not in text for text in seen.values()
        )
    return seen


def send(made: Site, row: Row) -> Sent:
    key = new_key()
    return {row.name: (row, key, row.send(made, key))}


def rest(made: Site, row: Row, key: str, task_id: str) -> str:
    """What became of a task, once it has come to rest."""
    if not row.final:
        result = made.app.AsyncResult(task_id)
        if row.name != "ignored":
            until(lambda: result.state in ("SUCCESS", "FAILURE", "REVOKED"), f"the end of {row.name}\n{made.logs()}")
        else:
            until(lambda: made.runs(key), "the run")
        assert made.record(task_id) is None, made.record(task_id)
        return f"nothing to record; {result.state}, {runs(made, key)}"

    def look() -> Record | None:
        record = made.record(task_id) if task_id else nameless(made)
        parked = record is not None and record.parked and record.state.value != "held"
        return record if record is not None and record.state.value in row.final and not parked else None

    try:
        record = until(look, f"{row.name} in {row.final}", 90)
    except AssertionError as error:
        raise AssertionError(f"{error}; {made.record(task_id)}\n{made.logs()}") from None
    state = made.state(record.task_id) if task_id else "no task"
    return describe(record, state, runs(made, key))


def nameless(made: Site) -> Record | None:
    return next(iter(made.ledger.failures(task_name="(no task)")), None)


def runs(made: Site, key: str) -> str:
    number = made.runs(key)
    return "1 run" if number == 1 else f"{number} runs"


def describe(record: Record, state: str, ran: str) -> str:
    if record.state.value == "recovered":
        return f"recovered; {state}, {ran}"
    return f"{record.state} (`{record.reason}`); {state}, {ran}"


def worker_killed(made: Site, pool: str) -> tuple[str, str]:
    """The whole worker is killed among running tasks: one that the start ledger knows, and one that it does not."""
    for one in made.processes:
        if one.log.name.startswith("worker"):
            one.kill_tree()
    texts = []
    for name in ("works", "works_untracked"):
        key = new_key()
        worker = made.worker(pool=pool, children=1)
        result = made.sig(name, key, 30).delay()
        until(lambda one=key: made.runs(one), "the beginning")
        worker.kill_tree()
        if name == "works":
            record = until(lambda one=result.id: made.record(one), f"the orphan\n{made.logs()}")
            texts.append(describe(record, made.state(result.id), runs(made, key)))
        else:
            time.sleep(1.5 * SETTINGS["lease_seconds"])
            assert made.record(result.id) is None
            texts.append(f"not seen, but by a scan of your own table; {made.state(result.id)}, {runs(made, key)}")
    return texts[0], texts[1]


LAST = {
    "worker": "the whole worker killed, with the start ledger (`track`)",
    "worker_untracked": "the whole worker killed, without it",
}


def table(seen: dict[str, dict[str, str]]) -> str:
    """The table of the page."""
    words = {row.name: row.words for row in ROWS} | LAST
    lines = [f"| what happens | {' | '.join(POOLS)} |", f"|---|{'---|' * len(POOLS)}"]
    lines += [f"| {text} | {' | '.join(seen[pool][name] for pool in POOLS)} |" for name, text in words.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table into the page, or one pool's part as JSON to the terminal."""
    if len(sys.argv) > 1:
        print(json.dumps({pool: observe(pool) for pool in sys.argv[1:]}, indent=1))
        return
    before, _, rest_of_page = PAGE.read_text().partition(BEGIN)
    _, _, after = rest_of_page.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table({pool: observe(pool) for pool in POOLS})}{END}{after}")


if __name__ == "__main__":
    main()
