"""Sends tasks again through Celery, under their own ids."""

from __future__ import annotations

import json
from dataclasses import replace

from celery import Celery, states
from celery.exceptions import CeleryError
from kombu.exceptions import OperationalError

from regrow.adapters.celery import envelope
from regrow.errors import DispatchError
from regrow.model import Due, Ending, Header

_ENDINGS = {states.SUCCESS: Ending.SUCCEEDED, states.FAILURE: Ending.FAILED, states.REVOKED: Ending.REVOKED}


class CeleryDispatcher:
    """Puts tasks back on the road (`ports.Dispatcher`).

    Args:
        app: The Celery application whose broker and result backend are used.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def retry(self, due: Due) -> None:
        """Send the task again."""
        self._send(due, Header(due.failure, due.attempts + 1, due.token))

    def close(self, due: Due) -> None:
        """Order a worker to fail the task with its stored error."""
        self._send(due, Header(due.failure, due.attempts + 1, due.token, close=True, error=due.error))

    def end(self, due: Due) -> None:
        """Mark the task failed from here."""
        try:
            backend = self._app.backend
            error = backend.exception_to_python(json.loads(due.error)) or Exception("failed")
            backend.mark_as_failure(due.task_id, error, request=envelope.context(due), call_errbacks=True)
        except Exception as error:  # each result backend raises what its driver raises
            raise DispatchError(f"the result backend did not take the end of the task: {error}") from error

    def ending(self, task_id: str) -> Ending | None:
        """How the task has ended, as the result backend says; None if it has not, or cannot be asked."""
        try:
            return _ENDINGS.get(self._app.backend.get_state(task_id))
        except Exception:  # each result backend raises what its driver raises
            return None

    def _send(self, due: Due, header: Header) -> None:
        if due.envelope is None:
            raise DispatchError("its call was not kept", permanent=True)
        try:
            signature, expires = envelope.revive(self._app, due)
            signature.apply_async(headers=envelope.stamp(signature, replace(header, expires=expires)))
        except (OperationalError, OSError, CeleryError) as error:
            raise DispatchError(f"the broker did not take it: {error}") from error
        except Exception as error:  # a call that no longer fits the task, or a user's publish hook
            raise DispatchError(f"{type(error).__name__}: {error}", permanent=True) from error
