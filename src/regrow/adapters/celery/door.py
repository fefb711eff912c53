"""The door: wraps each task's call from outside, parks what time can heal, and lets no stale copy run.

The life of a call, as `Door.call` sees it:

1. A stale or second copy of a retry, or a redelivered copy of a task that the ledger holds, is dropped (`Ignore`).
2. An order to fail raises the stored error, and Celery ends task, chain and chord as it always does.
3. The task runs. What Celery itself does with Retry, Ignore and Reject, native retries first of all, is left alone.
4. It fails for good: the ledger takes it, and `Retry` is raised without a message being sent, so that Celery keeps the
   task's chord, chain and waiters open. If the ledger does not take it, the facts go to the spool, and the task fails
   as it would have without us.
5. Celery has stored the end (`task_postrun`): the ledger learns it. Not earlier, or a kill in between would lose it.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from celery import Celery, Task, states
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry

from regrow.adapters.celery import facts
from regrow.adapters.celery.caretaker import Caretaker
from regrow.adapters.celery.envelope import read_header
from regrow.adapters.celery.keepalive import KeepAlive
from regrow.adapters.celery.parent import delivers_again_on_timeout
from regrow.decide import DEATH_LIMIT, LONGEST_LEASE
from regrow.errors import LedgerError, Poisoned
from regrow.model import Action, Handled, Header, Reason, State, TaskOptions
from regrow.pipeline import Regrow

log = logging.getLogger("regrow")


#: Arguments of these types cannot be changed by a task, so they need no copy.
_UNCHANGING = frozenset({str, int, float, bool, bytes, type(None)})


class Visit:
    """What the door remembers of one running task, on the task's request.

    Args:
        header: Our header on the message, if Regrow sent it.
        wishes: The task owner's options.

    Attributes:
        entered: It came to the door; one that failed in the task's own `before_start` did not.
        alive: Its lease is being renewed.
        call: Its arguments as they came; the task may change its own.
        handled: What the pipeline made of its failure.
        seen: Its failure has been looked at, so the one that Celery stores is no news.
        replaced: The task's own code raised Ignore: it has replaced itself, or stored its end by itself.
        stored: Celery has stored its success.
        tracked: The start ledger knows that it has begun.
    """

    def __init__(self, header: Header | None, wishes: TaskOptions) -> None:
        self.header = header
        self.wishes = wishes
        self.entered = False
        self.alive = False
        self.call: tuple[Any, Any] | None = None
        self.handled: Handled | None = None
        self.seen = False
        self.replaced = False
        self.stored = False
        self.tracked = False


class Door:
    """Stands before every task of a worker.

    Args:
        live: Gives the pipeline, with the settings as they are now.
        terms: What is kept of a failed run.
        caretaker: Has the ledger take later what it does not take now.
        boot: Names this start of the worker.
        track: True if the start ledger is to know every task that begins, unless its owner says otherwise.
    """

    def __init__(
        self, live: Callable[[], Regrow], *, terms: facts.Terms, caretaker: Caretaker, boot: str, track: bool = False
    ) -> None:
        self._live = live
        self._terms = terms
        self._caretaker = caretaker
        self._boot = boot
        self._track = track
        self._main = os.getpid()
        regrow = live()
        self._alive = KeepAlive(regrow.renew, regrow.lease.run.total_seconds() / 3)
        self._wishes: dict[str, TaskOptions | None] = {}

    @property
    def _regrow(self) -> Regrow:
        return self._live()

    # -- hanging the door -------------------------------------------------------------------------------------------

    def hang(self, app: Celery) -> list[Task]:
        """Wrap every task that is not wrapped yet; return those."""
        hung = []
        for task in app.tasks.values():
            wishes = self.wishes(task)
            if wishes is None or task.name.startswith("celery.") or "regrow_door" in vars(type(task)):
                continue
            self._wrap(type(task))
            hung.append(task)
        return hung

    def _wrap(self, kind: type[Task]) -> None:
        inner: Callable[..., Any] = kind.__call__
        plain = inner is Task.__call__
        door = self

        @functools.wraps(inner, assigned=("__name__", "__qualname__", "__doc__"))
        def through_door(task: Task, *args: Any, **kwargs: Any) -> Any:
            request = task.request
            # Looked up at call time for a plain task: Celery replaces Task.__call__ when a worker starts.
            run = functools.partial(Task.__call__ if plain else inner, task)
            ours = not (request.called_directly or request.is_eager or request.id is None)
            # A subclass of one of our tasks inherits the wrapper, and may be one that is to be left alone.
            if not ours or isinstance(_visit(request), Visit) or door.leaves_alone(task):
                return run(*args, **kwargs)
            return door.call(task, request, run, args, kwargs)

        kind.__call__ = through_door
        kind.regrow_door = True

    def wishes(self, task: Task) -> TaskOptions | None:
        """What a task's owner said; None if Regrow is to leave it alone."""
        if task.name not in self._wishes:
            self._wishes[task.name] = facts.options(task)
        return self._wishes[task.name]

    def leaves_alone(self, task: Task) -> bool:
        """True if the task's owner said `regrow=False`."""
        return task.name in self._wishes and self._wishes[task.name] is None

    # -- one call ---------------------------------------------------------------------------------------------------

    def call(
        self, task: Task, request: Context, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a task that a worker has received."""
        visit = Visit(read_header(request), self._wishes.get(task.name) or TaskOptions())
        request.regrow_visit = visit
        visit.entered = True
        self._enter(task, request, visit)
        visit.call = _snapshot(args, kwargs)
        if visit.header is None and (self._track if visit.wishes.track is None else visit.wishes.track):
            self._begin(task, request, visit)
        try:
            return run(*args, **kwargs)
        except Retry as retry:
            self._wait_for(visit, retry)
            raise
        except Ignore:
            visit.replaced = True
            raise
        except Reject:
            raise
        except Exception as error:
            ending = self._failed(task, request, visit, error)
            if ending is None:
                raise
            raise ending from error
        except BaseException as error:
            # In a pool's child this ends the process, and the main process sees that (`Parent`). Here it is the main
            # process itself, or a thread of it, and Celery stores no end: it waits for one as for a parked task.
            # A green thread's time-out comes back as a time limit (`Parent`).
            if os.getpid() == self._main and type(error).__module__.partition(".")[0] not in ("gevent", "eventlet"):
                parked = self._regrow.policies.acting
                self._failed(task, request, visit, facts.cut_off(error), died=True, parked=parked)
            raise

    def _enter(self, task: Task, request: Context, visit: Visit) -> None:
        """Drop what must not run, fail what was ordered to fail.

        Raises:
            Ignore: This copy is stale.
            Poisoned: Its workers have died with it too often.
        """
        if visit.header is None:
            redelivered = (request.delivery_info or {}).get("redelivered")
            # A task that replaced another one goes on under its id, and has not run.
            if redelivered and not request.replaced_task_nesting:
                self._refuse_redelivered(task, request, visit)
            return
        if not self._may_start(task, request, visit.header, visit.wishes):
            log.info("regrow dropped a stale copy of task %s[%s]", task.name, request.id)
            raise Ignore("a stale copy of a retry")
        if visit.header.close:
            visit.seen = True
            raise _stored_error(task, visit.header)
        self._alive.add(visit.header)
        visit.alive = True

    def _may_start(self, task: Task, request: Context, header: Header, wishes: TaskOptions) -> bool:
        try:
            return self._regrow.start(header, retries=request.retries or 0, idempotent=wishes.idempotent)
        except Exception as error:
            # Unasked it might run twice; the ledger still has the task and sends it again when its lease is over.
            log.error("regrow cannot start a retry of task %s[%s]: %s", task.name, request.id, error)
            return False

    def _refuse_redelivered(self, task: Task, request: Context, visit: Visit) -> None:
        """Drop a copy of a task that has run or still runs, and fail one whose workers have died too often."""
        task_id = str(request.id)
        # Who wants his task delivered again when its worker dies has said that it may run again.
        again = task.reject_on_worker_lost or delivers_again_on_timeout(task)
        may_repeat = visit.wishes.idempotent or bool(task.acks_late and again)
        try:
            regrow = self._regrow
            acting = regrow.policies.acting
            history, before = regrow.history(task_id), regrow.store.begun(task_id)
            # What has ended in FAILURE may have been sent again by a person; Celery then does as it always does.
            ours = history.state.live or history.state is State.RECOVERED
            held = history.parked or (history.failure is not None and ours and acting and not visit.wishes.idempotent)
            # It still runs, and its broker has lost patience; or its worker is dead, and a dispatcher will find that.
            begun = before is not None and before.boot != "" and acting and not may_repeat
            rescues = regrow.store.rescued(task_id, now=regrow.clock()) if acting and not (held or begun) else 0
        except Exception as error:
            log.error("regrow cannot check a redelivered copy of task %s[%s]: %s", task.name, task_id, error)
            return
        if held or begun:
            log.info("regrow dropped a redelivered copy of task %s[%s]: it was begun before", task.name, task_id)
            raise Ignore("a redelivered copy of a task that was begun before")
        visit.tracked = rescues > 0
        if rescues > DEATH_LIMIT:
            log.error("regrow does not begin task %s[%s] for the %dth time", task.name, task_id, rescues + 1)
            poison = Poisoned(f"{rescues} workers died while they ran this task; it is not begun again")
            self._failed(task, request, visit, poison, parkable=False, died=True, final=Reason.POISON)
            raise poison

    def _begin(self, task: Task, request: Context, visit: Visit) -> None:
        try:
            call = facts.failure(
                task, request, None, visit.wishes, now=self._regrow.clock(), terms=self._terms, call=visit.call
            )
            self._regrow.store.begin(call, self._boot)
            visit.tracked = True
        except Exception as error:
            log.error("regrow cannot note that task %s[%s] begins: %s", task.name, request.id, error)

    def _wait_for(self, visit: Visit, retry: Retry) -> None:
        """A native retry of one of our retries is on its way: its lease must outlast the countdown."""
        if visit.header is None:
            return
        self._alive.remove(visit.header)
        try:
            # Its message may wait in a full queue: that is no death.
            wait = max(_wait(retry.when, self._regrow.clock()), timedelta())
            self._regrow.renew([visit.header], wait=wait + LONGEST_LEASE)
        except Exception as error:
            log.error("regrow cannot renew a lease before a native retry: %s", error)

    def _failed(
        self,
        task: Task,
        request: Context,
        visit: Visit,
        error: Exception,
        **known: Any,
    ) -> Exception | None:
        """Record a failure; return what to raise instead of it, None to let it pass. Never raises itself.

        `known` is what is known of it beside: any field of `Failure`.
        """
        visit.seen = True
        failure = None
        try:
            if visit.header is None and facts.is_expected(task, error):
                return None
            regrow = self._regrow
            failure = facts.failure(
                task,
                request,
                error,
                visit.wishes,
                now=regrow.clock(),
                terms=self._terms,
                header=visit.header,
                call=visit.call,
            )
            failure = replace(failure, **known)
            visit.handled = regrow.handle([failure])[0]
            return self._ending(task, request, visit.handled, error)
        except Exception as problem:
            log.error(
                "regrow could not record a failure of task %s[%s]: %s",
                task.name,
                request.id,
                problem,
                exc_info=not isinstance(problem, LedgerError),  # which says all there is to say
            )
            if failure is not None:  # Celery is about to end the task, unless it waits for an end already
                self._caretaker.keep(replace(failure, parkable=False, ended=not failure.parked))
            return None

    def _ending(self, task: Task, request: Context, handled: Handled, error: Exception) -> Exception | None:
        history, decision = handled.history, handled.decision
        if handled.duplicate:
            if history.state is State.RECOVERED:
                return _ignore("another copy of this task has succeeded")
            still_parked = history.parked and (history.state.live or history.state is State.HELD)
            return _retry("held by regrow already", error, None) if still_parked else None
        if not decision.park:
            log.info("regrow: task %s[%s] %s (%s)", task.name, request.id, decision.action, decision.reason)
            return None
        text = f"parked by regrow as failure {handled.id} ({handled.verdict.category}): " + (
            f"retry {handled.attempt} at {decision.due_at:%Y-%m-%d %H:%M:%S %Z}" if decision.due_at else "held"
        )
        if decision.action is Action.HOLD:
            text += f" ({decision.reason})"
        log.warning("Task %s[%s] %s", task.name, request.id, text, exc_info=error)
        return _retry(text, error, decision.due_at)

    # -- its end ----------------------------------------------------------------------------------------------------

    def stored(self, request: Context) -> None:
        """Celery has stored a task's success and called on its chain, links and chord (`task_success`)."""
        visit = _visit(request)
        if visit is not None:
            visit.stored = True

    def ended(self, task: Task, request: Context, state: str, result: object) -> bool:
        """A call is over (`task_postrun`); a failure Celery has stored, a success only if `stored` came before.

        Returns:
            True if the run has failed, though Celery may not know it.
        """
        visit = _visit(request) or self._unmet(task, request)
        if visit is not None:
            self._over(task, request, visit, state, result)
        return state == states.FAILURE or (visit is not None and visit.handled is not None)

    def _over(self, task: Task, request: Context, visit: Visit, state: str, result: object) -> None:
        if visit.alive and visit.header is not None:
            self._alive.remove(visit.header)
        for settle in (self._settle, self._finish):
            try:
                settle(task, request, visit, state, result)
            except Exception as error:
                log.error("regrow cannot record the end of task %s[%s]: %s", task.name, request.id, error)

    def _finish(self, task: Task, request: Context, visit: Visit, state: str, result: object) -> None:
        """Take a task off the start ledger; were it not there, it was taken for dead while it ran."""
        if not visit.tracked:
            return
        task_id, boot = str(request.id), self._boot
        try:
            known = self._regrow.store.finish(task_id, boot)
        except LedgerError:
            # Else it would be taken for an orphan when this worker stops one day.
            self._caretaker.later(lambda regrow: regrow.store.finish(task_id, boot))
            raise
        if known or state != states.SUCCESS:
            return
        history = self._regrow.history(str(request.id))
        if history.failure is not None and self._regrow.recovered(history.failure):
            log.info("task %s[%s] was taken for dead, and has succeeded", task.name, request.id)

    def _unmet(self, task: Task, request: Context) -> Visit | None:
        """The visit of a call that failed before it came to the door, in the task's own `before_start`."""
        wishes = self._wishes.get(task.name)
        if wishes is None or "regrow_door" not in vars(type(task)) or request.called_directly or request.is_eager:
            return None
        visit = Visit(read_header(request), wishes)
        visit.seen = visit.header is not None and visit.header.close
        return visit

    def _settle(self, task: Task, request: Context, visit: Visit, state: str, result: object) -> None:
        if visit.replaced or (state == states.SUCCESS and visit.stored):
            if visit.header is not None:
                self._regrow.recovered(visit.header.failure)
        elif state in (states.SUCCESS, states.FAILURE):
            if not visit.seen:
                # The task's own code had ended; storing its result or going on with its chain failed. If that was no
                # error which Celery expects there, it is on its way up now, and Celery stores FAILURE after us.
                error = result if state == states.FAILURE else sys.exc_info()[1]
                if not isinstance(error, Exception):
                    error = RuntimeError("Celery could not store the task's result")
                self._failed(task, request, visit, error, work_done=visit.entered, parkable=False)
            if visit.header is not None:
                self._regrow.closed(visit.header.failure)
            elif visit.handled is not None and visit.handled.history.parked and visit.handled.id is not None:
                self._regrow.closed(visit.handled.id)


class ShutDoor(Door):
    """The door of a worker in which Regrow is not active: drops what Regrow has sent, and lets all else pass.

    Without it such a worker would run retries unasked, and the dispatcher, hearing nothing, would send them again.
    """

    def __init__(self) -> None:
        self._wishes = {}

    def call(
        self, task: Task, request: Context, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a task, unless it is a retry of ours: that one stays in the ledger, for a worker that can ask it."""
        if read_header(request) is not None:
            log.error("regrow is not active in this worker, so it drops a retry of task %s[%s]", task.name, request.id)
            raise Ignore("a retry, in a worker without Regrow")
        return run(*args, **kwargs)

    def stored(self, request: Context) -> None:
        """Nothing to remember."""

    def ended(self, task: Task, request: Context, state: str, result: object) -> bool:
        """Nothing to record."""
        return bool(state == states.FAILURE)


def _visit(request: Context) -> Visit | None:
    """What we have written on the request; a message header of that name is not it."""
    visit = getattr(request, "regrow_visit", None)
    return visit if isinstance(visit, Visit) else None


def _snapshot(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """The arguments as they are now; None where that is certain to last, or cannot be kept."""
    if all(type(one) in _UNCHANGING for one in (*args, *kwargs.values())):
        return None
    try:
        return copy.deepcopy((args, kwargs))
    except Exception:  # arguments that refuse to be copied are kept as the task leaves them, as Celery's own retry does
        return None


def _wait(when: object, now: datetime) -> timedelta:
    """How long a native retry waits, from what the task gave to Retry."""
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=now.tzinfo)) - now
    return timedelta(seconds=float(str(when or 0)))


def _retry(text: str, error: Exception, when: datetime | None) -> Exception:
    """Celery's order to keep a task open; raised without a message being sent."""
    retry: Exception = Retry(text, exc=error, when=when)
    return retry


def _ignore(text: str) -> Exception:
    """Celery's order to forget this copy of a task."""
    ignore: Exception = Ignore(text)
    return ignore


def _stored_error(task: Task, header: Header) -> Exception:
    error = task.backend.exception_to_python(json.loads(header.error or "{}"))
    return error if isinstance(error, Exception) else RuntimeError("the task failed; its error was not kept")
