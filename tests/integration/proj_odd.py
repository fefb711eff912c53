"""Tasks whose owners have wishes, and tasks that end in odd ways."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Task
from celery.exceptions import SoftTimeLimitExceeded

from tests.integration.proj_site import app_task, folder, mark, stumble, task

# -- owners' wishes ---------------------------------------------------------------------------------------------------


@task(regrow=False)
def alone(key: str, fails: int) -> int:
    """Not ours."""
    return stumble(key, fails)


@task(regrow={"retry": False})
def no_retry(key: str, fails: int) -> int:
    """Recorded, never retried."""
    return stumble(key, fails)


@task(regrow={"park": False})
def no_park(key: str, fails: int) -> int:
    """FAILURE at once; retried all the same."""
    return stumble(key, fails)


@task(regrow={"idempotent": True})
def idempotent(key: str, fails: int, seconds: float = 0) -> int:
    """May run again."""
    run = stumble(key, fails)
    time.sleep(seconds)
    return run


@task(regrow={"retyr": False})
def misspelt(key: str, fails: int) -> int:
    """Its owner made a mistake."""
    return stumble(key, fails)


# -- odd ends ---------------------------------------------------------------------------------------------------------


class Unpicklable(ConnectionError):
    """An exception that no pickle brings back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")
        self.lock = os.fdopen(os.dup(1))

    def __reduce__(self) -> Any:
        """Refuse."""
        raise TypeError("not to be pickled")


class Unprintable(ConnectionError):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        """Refuse."""
        raise RuntimeError("no text")


@task()
def odd(key: str, fails: int, kind: str) -> int:
    """Fail with an odd exception."""
    run = mark(key)
    if run <= fails:
        if kind == "unpicklable":
            raise Unpicklable("connection", "refused")
        if kind == "unprintable":
            raise Unprintable("connection refused")
        raise ConnectionError("connection refused \x00 \x1b[31m " + "x" * 3_000_000)
    return run


@task()
def unserialisable(key: str) -> object:
    """Do the work, return what JSON cannot hold."""
    mark(key)
    return object()


@task(soft_time_limit=1)
def soft(key: str, fails: int) -> str:
    """Run into the soft limit on the first runs."""
    if mark(key) <= fails:
        time.sleep(30)
    return "in time"


@task(soft_time_limit=1, regrow={"idempotent": True})
def soft_idempotent(key: str, fails: int) -> str:
    """Run into the soft limit on the first runs; may run again."""
    try:
        if mark(key) <= fails:
            time.sleep(30)
    except SoftTimeLimitExceeded:
        mark(f"{key}-soft")
        raise
    return "in time"


@task(acks_late=True)
def late(key: str, fails: int) -> int:
    """Acknowledged after the run."""
    return stumble(key, fails)


@task(ignore_result=True)
def silent(key: str, fails: int) -> int:
    """Nobody wants its result."""
    return stumble(key, fails)


@task(acks_late=True)
def slow(key: str, fails: int, seconds: float) -> int:
    """Sleep after the mark."""
    run = stumble(key, fails)
    time.sleep(seconds)
    mark(f"{key}-done")
    return run


@task()
def dies(key: str, fails: int) -> int:
    """Fail at first, then die in the middle of the first retry."""
    run = stumble(key, fails)
    if run == fails + 1:
        os.kill(os.getpid(), 9)
    return run


@task()
def before_start_fails(key: str, fails: int) -> int:
    """Its `before_start` fails once, on the first retry."""
    return stumble(key, fails)


@task()
def pickled(value: Any, key: str, fails: int) -> str:
    """What came through."""
    stumble(key, fails)
    return repr(value)


@task()
def turns_bad(key: str) -> None:
    """Fail as a network does, then as no time can heal."""
    if mark(key) == 1:
        raise ConnectionRefusedError(111, "Connection refused")
    raise ZeroDivisionError("division by zero")


class Guarded(Task):
    """A base whose `before_start` fails from the second run on."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Fail where the first run has left its mark."""
        if (folder() / "marks" / args[0]).exists():
            raise ZeroDivisionError("division by zero")


@task(base=Guarded)
def guarded(key: str) -> None:
    """Fail as a network does."""
    stumble(key, 99)


@task()
def describe() -> dict[str, list[str]]:
    """How tasks look from inside a worker."""
    import inspect

    found = {}
    for name in ("flaky", "native", "with_super", "shared", "classy"):
        one = app_task(name)
        try:
            one.apply_async(args=(1, 2, 3, 4, 5, 6))
            refusal = ""
        except TypeError as error:
            refusal = f"TypeError: {error}"
        found[name] = [str(inspect.signature(one)), refusal, str(inspect.signature(one.run)), one.__name__]
    return found


@task(bind=True)
def loses_result(self: Task, key: str, fails: int) -> str:
    """Do the work; then the result backend refuses the result once, as a database that goes away does."""
    stumble(key, fails)
    backend = self.backend
    real = backend.mark_as_done

    def refuse(*args: Any, **kwargs: Any) -> None:
        backend.mark_as_done = real
        raise RuntimeError("the result backend went away")

    backend.mark_as_done = refuse
    return "done"


@task(bind=True)
def retries_later(self: Task, key: str) -> int:
    """Fail as a network does; the retry then asks Celery for two native retries before it succeeds."""
    run = stumble(key, 1)
    if run < 4:
        raise self.retry(countdown=0.1)
    return run


@task(bind=True)
def replaced_later(self: Task, key: str) -> int:
    """Fail as a network does; the retry then replaces itself by another task under the same id."""
    stumble(key, 1)
    raise self.replace(app_task("flaky").s(f"{key}-other", 0, 9))


@task(throws=KeyError)
def declares_one(key: str) -> None:
    """Declare one class, not a tuple of them, and fail with another."""
    stumble(key, 1)


@task()
def changes(key: str, items: list[int], options: dict[str, int]) -> list[Any]:
    """Change its own arguments before it fails."""
    seen = [list(items), dict(options)]
    items.pop()
    options["amount"] *= 2
    stumble(key, 2)
    return seen


@task()
def broken_later(key: str) -> None:
    """Fail as a network does, always."""
    stumble(key, 99)


@task(bind=True)
def itself(self: Task, how: str, depth: int = 1) -> list[Any]:
    """What a task sees of its request when it calls or applies itself."""
    seen = [bool(self.request.id), self.request.is_eager, self.request.called_directly, len(self.request_stack.stack)]
    if depth == 0:
        return seen
    inner = self(how, depth - 1) if how == "call" else self.apply((how, depth - 1)).result
    return [seen, inner]
