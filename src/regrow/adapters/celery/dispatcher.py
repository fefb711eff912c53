"""Sends tasks again through Celery, under their own ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from celery import Celery, states
from celery.backends.base import KeyValueStoreBackend

from regrow.adapters.celery import envelope
from regrow.adapters.celery.publishing import Publisher
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
        self._publisher = Publisher(app)

    def retry(self, batch: Sequence[Due]) -> Mapping[int, DispatchError]:
        """Send tasks again."""
        return self._publisher.publish([(due, Header(due.failure, due.attempts + 1, due.token)) for due in batch])

    def close(self, batch: Sequence[Due]) -> Mapping[int, DispatchError]:
        """Order workers to fail tasks with their stored errors."""
        return self._publisher.publish(
            [(due, Header(due.failure, due.attempts + 1, due.token, close=True, error=due.error)) for due in batch]
        )

    def end(self, due: Due) -> None:
        """Mark the task failed from here."""
        try:
            backend = self._app.backend
            error = backend.exception_to_python(json.loads(due.error)) or Exception("failed")
            backend.mark_as_failure(due.task_id, error, request=envelope.context(due), call_errbacks=True)
        except Exception as error:  # each result backend raises what its driver raises
            raise DispatchError(f"the result backend did not take the end of the task: {error}") from error

    def endings(self, task_ids: Sequence[str]) -> Mapping[str, Ending]:
        """How tasks have ended, as the result backend says."""
        backend = self._app.backend
        kept = self._kept(task_ids)
        found: dict[str, Ending] = {}
        for index, one in enumerate(task_ids):
            try:
                if kept is None:
                    state = backend.get_state(one)
                else:
                    state = backend.decode_result(kept[index])["status"] if kept[index] else states.PENDING
            except Exception:  # noqa: S112  # each result backend raises what its driver raises
                continue
            if state in _ENDINGS:
                found[one] = _ENDINGS[state]
        return found

    def _kept(self, task_ids: Sequence[str]) -> list[Any] | None:
        """What the result backend keeps of these tasks; None if it can only be asked for one at a time."""
        backend = self._app.backend
        if len(task_ids) > 1 and isinstance(backend, KeyValueStoreBackend):
            with suppress(Exception):  # files, object stores ...
                kept = backend.mget([backend.get_key_for_task(one) for one in task_ids])
                return kept if isinstance(kept, list) and len(kept) == len(task_ids) else None
        return None
