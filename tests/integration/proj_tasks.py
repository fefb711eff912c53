"""Tasks that fail in ordinary ways: as a network does, as no time can heal, with native retries, of every shape."""

from __future__ import annotations

import json
from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore, Reject

from tests.integration.proj_site import PREFIX, app_task, mark, stumble, task

# -- ordinary tasks ---------------------------------------------------------------------------------------------------


@task()
def flaky(key: str, fails: int, value: Any = None) -> Any:
    """Return `value` after `fails` failures."""
    stumble(key, fails)
    return value


@task()
def after(before: Any, key: str, fails: int = 0) -> Any:
    """A step of a chain, or a body: what came before, after `fails` failures."""
    mark(f"{key}-got", json.dumps(before))
    stumble(key, fails)
    return before


@task()
def plus(before: int, more: int) -> int:
    """A step of a chain that never fails."""
    return before + more


@task()
def broken(key: str) -> None:
    """Fail as no time can heal."""
    mark(key)
    raise ZeroDivisionError("division by zero")


@task()
def leaky(key: str, secret: str = "") -> None:
    """Fail as a driver does that prints the address, and with it the password: one that was given, or its own."""
    mark(key)
    password = secret or key[::-1]  # not in the source, for a traceback shows that
    raise ConnectionError(f"cannot reach postgresql://u:{password}@h")


@task()
def errback(request: Any, exc: BaseException, traceback: Any) -> None:
    """A new-style errback: runs in the worker that failed."""
    mark(f"errback-{request.id}", type(exc).__name__)


@task()
def old_errback(task_id: str) -> None:
    """An old-style errback: a task of its own."""
    mark(f"old-errback-{task_id}")


@task()
def linked(value: Any, key: str) -> None:
    """A callback."""
    mark(f"link-{key}", json.dumps(value))


# -- native retries and control flow ----------------------------------------------------------------------------------


@task(autoretry_for=(ConnectionError,), max_retries=2, default_retry_delay=0)
def auto(key: str, fails: int) -> int:
    """Retried by Celery twice, then by us."""
    return stumble(key, fails)


@task(bind=True, max_retries=1)
def native(self: Task, key: str, fails: int, keep_cause: bool = True) -> int:
    """Retried by itself once, then by us."""
    try:
        return stumble(key, fails)
    except ConnectionError as error:
        raise self.retry(exc=error if keep_cause else None, countdown=0) from error


@task(throws=(ConnectionError,))
def expected(key: str) -> None:
    """Fail with a declared exception."""
    stumble(key, 99)


@task()
def control(key: str, kind: str) -> None:
    """End by one of Celery's control exceptions."""
    mark(key)
    raise {"ignore": Ignore("said so"), "reject": Reject("said so", requeue=False)}[kind]


# -- shapes of tasks --------------------------------------------------------------------------------------------------


class Classy(Task):
    """A class-based task."""

    name = PREFIX + "classy"

    def run(self, key: str, fails: int) -> str:
        """Return the class's name after `fails` failures."""
        stumble(key, fails)
        return type(self).__name__


class WithSuper(Task):
    """A base with a call of its own."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Mark, then go on."""
        mark(f"call-{args[0]}")
        return super().__call__(*args, **kwargs)


class WithoutSuper(Task):
    """A base with a call of its own that goes straight to the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Mark, then run."""
        mark(f"call-{args[0]}")
        return self.run(*args, **kwargs)


@task(base=WithSuper)
def with_super(key: str, fails: int) -> int:
    """Called through its base."""
    return stumble(key, fails)


@task(base=WithoutSuper)
def without_super(key: str, fails: int) -> int:
    """Called through its base."""
    return stumble(key, fails)


@shared_task(name=PREFIX + "shared")
def shared(key: str, fails: int) -> int:
    """Belongs to no application."""
    return stumble(key, fails)


@task(bind=True)
def show(self: Task, key: str, fails: int) -> dict[str, Any]:
    """What the message said, after `fails` failures."""
    stumble(key, fails)
    request = self.request
    return {
        "id": request.id,
        "args": list(request.args),
        "retries": request.retries,
        "headers": request.headers,
        "priority": (request.delivery_info or {}).get("priority"),
        "routing_key": (request.delivery_info or {}).get("routing_key"),
        "stamps": request.stamps,
        "stamped_headers": request.stamped_headers,
        "expires": request.expires,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "timelimit": request.timelimit,
    }


@task()
def outer(key: str, how: str, fails: int) -> Any:
    """Run another task inside this one."""
    mark(key)
    inner = app_task("flaky")
    if how == "call":
        return inner(f"{key}-inner", fails, 5)
    if how == "apply":
        return repr(inner.apply((f"{key}-inner", fails, 5)).result)
    return inner.apply(args=(f"{key}-inner", fails, 5), throw=True).result


@task(bind=True)
def replaced(self: Task, key: str, fails: int) -> Any:
    """Hand over to another task under the same id."""
    raise self.replace(app_task("flaky").s(key, fails, 9))
