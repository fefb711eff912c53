"""What Regrow relies on in Celery: a Celery release that changes one of these must turn a test red, not lose a task."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task, signals, states
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Retry
from kombu.utils.json import dumps, loads

#: What a worker puts into a message's request; `trace` adds the id.
REQUEST: dict[str, Any] = {"delivery_info": {"exchange": "", "routing_key": "q", "priority": 3}, "hostname": "w@h"}


class Laboratory:
    """One application whose tasks are traced as a worker traces them, and what Celery said meanwhile."""

    def __init__(self) -> None:
        self.app = Celery("facts", broker="memory://", backend="cache+memory://", set_as_current=False)
        self.app.conf.task_default_queue = "facts"
        self.told: list[Any] = []
        self.app.finalize()
        self.app.backend.client.cache.clear()  # the memory of all applications of a process is one

    def task(self, function: Any, **options: Any) -> Task:
        """A task of this application; Celery takes no lambda, so it gets the task's name."""
        function.__name__ = options.setdefault("name", function.__name__)
        return self.app.task(function, shared=False, **options)

    def trace(self, task: Task, task_id: str = "id-1", **request: Any) -> None:
        """Run a task as a worker does."""
        tracer = build_tracer(task.name, task, app=self.app)
        tracer(task_id, request.pop("args", ()), request.pop("kwargs", {}), {**REQUEST, "id": task_id, **request})

    def state(self, task_id: str = "id-1") -> str:
        """What the result backend says."""
        return str(self.app.backend.get_state(task_id))

    def waiting(self) -> int:
        """How many messages lie in the broker."""
        with self.app.connection_for_write() as connection:
            return sum(connection.default_channel._size(queue) for queue in ("facts", "q"))

    def hear(self, name: str) -> Any:
        """A receiver that writes down what it was told and what the backend says at that moment."""

        def receive(sender: Any = None, **given: Any) -> None:
            self.told.append((name, str(given.get("state", "")), self.state(sender.request.id), sender.request.id))

        return receive


@pytest.fixture
def laboratory() -> Iterator[Laboratory]:
    """A laboratory that listens to the signals of a task's end."""
    made = Laboratory()
    pairs = [
        (signal, made.hear(name))
        for name, signal in (
            ("retry", signals.task_retry),
            ("failure", signals.task_failure),
            ("success", signals.task_success),
            ("postrun", signals.task_postrun),
        )
    ]
    for signal, receiver in pairs:
        signal.connect(receiver, weak=False)
    yield made
    for signal, receiver in pairs:
        signal.disconnect(receiver)


def raising(error: BaseException) -> Any:
    def run(*_: Any, **__: Any) -> None:
        raise error

    return run


def test_retry_without_a_message_keeps_a_task_open(laboratory: Laboratory) -> None:
    """A raised `Retry` stores RETRY with the real error, fires no errback, and sends nothing: that is what parking is."""
    fired: list[str] = []
    back = laboratory.task(lambda request, exc, tb: fired.append(request.id), name="back")
    task = laboratory.task(raising(Retry("parked", exc=ConnectionError("refused"), when=None)), name="parks")
    laboratory.trace(task, errbacks=[back.s()])
    assert laboratory.state() == states.RETRY
    assert isinstance(laboratory.app.backend.get_result("id-1"), ConnectionError)
    assert [one[0] for one in laboratory.told] == ["retry", "postrun"]
    assert (fired, laboratory.waiting()) == ([], 0)


def test_ignore_leaves_the_stored_state(laboratory: Laboratory) -> None:
    """A raised `Ignore` stores nothing: a dropped copy does not disturb what is known of its task."""
    laboratory.app.backend.store_result("id-1", "value", states.SUCCESS)
    laboratory.trace(laboratory.task(raising(Ignore()), name="drops"))
    assert laboratory.state() == states.SUCCESS
    assert laboratory.told == [("postrun", "IGNORED", "SUCCESS", "id-1")]


def test_end_is_stored_before_postrun(laboratory: Laboratory) -> None:
    """`task_success` and `task_postrun` come after the result is stored, and see the task's own request."""
    laboratory.trace(laboratory.task(lambda: 1, name="works"))
    assert laboratory.told == [("success", "", "SUCCESS", "id-1"), ("postrun", "SUCCESS", "SUCCESS", "id-1")]
    laboratory.told.clear()
    laboratory.trace(laboratory.task(raising(KeyError("x")), name="fails"), "id-2")
    assert laboratory.told == [("failure", "", "FAILURE", "id-2"), ("postrun", "FAILURE", "FAILURE", "id-2")]


def test_result_that_json_refuses(laboratory: Laboratory) -> None:
    """A result that cannot be encoded ends as FAILURE after the task's own code, without `task_success`."""
    laboratory.app.conf.result_serializer = "json"
    backend = laboratory.app.backend
    backend.serializer, backend.content_type, backend.content_encoding = "json", "application/json", "utf-8"
    laboratory.trace(laboratory.task(lambda: object(), name="odd"))
    assert [one[:3] for one in laboratory.told] == [("failure", "", "FAILURE"), ("postrun", "FAILURE", "FAILURE")]


def test_result_backend_that_refuses(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result backend that raises: `task_postrun` says SUCCESS without `task_success`, and FAILURE is stored later."""
    monkeypatch.setattr(laboratory.app.backend, "mark_as_done", raising(RuntimeError("gone")))
    with pytest.warns(RuntimeWarning, match="gone"):
        laboratory.trace(laboratory.task(lambda: 1, name="lost"))
    assert laboratory.told[0] == ("postrun", "SUCCESS", "PENDING", "id-1")
    assert laboratory.state() == states.FAILURE


def test_whose_call_the_tracer_takes(laboratory: Laboratory) -> None:
    """The tracer calls the `__call__` of a task's own class; without one it calls `run`."""
    seen = []

    def door(task: Task, *args: Any, **kwargs: Any) -> Any:
        seen.append(task.request.id)
        return task.run(*args, **kwargs)

    task = laboratory.task(lambda: 1, name="wrapped")
    laboratory.trace(task)
    type(task).__call__ = door
    laboratory.trace(task, "id-2")
    assert seen == ["id-2"]


def test_before_start_is_outside_the_call(laboratory: Laboratory) -> None:
    """`before_start` runs before `__call__`: what it raises never reaches the door."""

    class Base(Task):
        def before_start(self, *_: Any) -> None:
            raise ZeroDivisionError

        def __call__(self, *_: Any) -> None:
            raise AssertionError("not reached")

    laboratory.trace(laboratory.task(lambda: 1, name="early", base=Base))
    assert laboratory.state() == states.FAILURE
    assert isinstance(laboratory.app.backend.get_result("id-1"), ZeroDivisionError)


def test_autoretry_is_inside_the_call(laboratory: Laboratory) -> None:
    """`autoretry_for` wraps `run`, so that its `Retry` passes the door from inside, with a message sent."""
    task = laboratory.task(raising(ConnectionError("x")), name="auto", autoretry_for=(ConnectionError,), max_retries=1)
    passed: list[str] = []

    def door(task: Task, *args: Any, **kwargs: Any) -> Any:
        try:
            return task.run(*args, **kwargs)
        except Exception as error:
            passed.append(type(error).__name__)
            raise

    type(task).__call__ = door
    laboratory.trace(task)
    laboratory.trace(task, "id-2", retries=1)
    assert passed == ["Retry", "ConnectionError"]
    assert laboratory.waiting() == 1


def test_signature_from_request_keeps_the_call(laboratory: Laboratory) -> None:
    """The signature made from a request holds everything that a re-sent task needs, and survives JSON."""
    task = laboratory.task(lambda x: x, name="whole")
    step = task.s(9)
    request = Context(
        {
            **REQUEST,
            "id": "id-7",
            "chain": [step],
            "chord": task.s(1),
            "callbacks": [step],
            "errbacks": [step],
            "group": "group-1",
            "group_index": 4,
            "root_id": "root",
            "parent_id": "parent",
            "timelimit": [9, 8],
            "headers": {"tenant": "x"},
            "reply_to": "reply",
            "retries": 2,
            "expires": "2030-01-01T00:00:00+00:00",
        },
        args=[1],
        kwargs={"b": 2},
    )
    kept = loads(dumps(task.signature_from_request(request, countdown=0, retries=2)))
    options = kept["options"]
    assert (kept["args"], kept["kwargs"], options["task_id"]) == ([1], {"b": 2}, "id-7")
    assert options["queue"] == "q"
    assert options["priority"] == 3
    assert options["group_id"] == "group-1"
    assert options["group_index"] == 4
    assert (options["root_id"], options["parent_id"], options["retries"]) == ("root", "parent", 2)
    assert options["headers"] == {"tenant": "x"}
    assert options["chain"] == [json.loads(dumps(step))] == options["link"] == options["link_error"]
    assert options["chord"]["args"] == [1]
    assert options["expires"] == "2030-01-01T00:00:00+00:00"


def test_failure_marked_from_outside(laboratory: Laboratory) -> None:
    """`mark_as_failure` with a request made by hand stores FAILURE and calls the errbacks."""
    fired: list[str] = []
    back = laboratory.task(lambda request, exc, tb: fired.append(f"{request.id} {exc!r}"), name="back")
    request = Context(
        id="id-9", task="x", errbacks=[back.s()], delivery_info={}, correlation_id="id-9", args=[], kwargs={}
    )
    laboratory.app.backend.mark_as_failure("id-9", KeyError("why"), request=request, call_errbacks=True)
    assert laboratory.state("id-9") == states.FAILURE
    assert fired == ["id-9 KeyError('why')"]


def test_exceptions_in_json_form(laboratory: Laboratory) -> None:
    """An exception comes back from its JSON form as itself, or as a class of its name where it cannot be imported."""
    backend = laboratory.app.backend
    form = json.loads(json.dumps(backend.prepare_exception(ConnectionRefusedError(111, "refused"), "json")))
    error = backend.exception_to_python(form)
    assert isinstance(error, ConnectionRefusedError)
    assert error.args == (111, "refused")
    strange = backend.exception_to_python({"exc_type": "Strange", "exc_module": "nowhere", "exc_message": ["text"]})
    assert (type(strange).__name__, strange.args) == ("Strange", ("text",))


def test_retry_survives_pickle() -> None:
    """A child sends its `Retry` to the parent by pickle."""
    retry = pickle.loads(pickle.dumps(Retry("parked by regrow", exc=ConnectionError("x"))))
    assert retry.message == "parked by regrow"
