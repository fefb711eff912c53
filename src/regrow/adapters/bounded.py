"""Questions with an end to the waiting: what is asked may hang, whoever asks must not."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Question(Generic[Answer]):
    """Is asked at once, in a thread of its own; a process that ends does not wait for it.

    Args:
        ask: Gives the answer.
    """

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._asked_at = monotonic()
        self._told: SimpleQueue[Answer | Exception] = SimpleQueue()
        # Not a pool: Python waits for a pool's threads when it ends.
        Thread(target=self._run, name="regrow-question", daemon=True).start()

    def _run(self) -> None:
        try:
            self._told.put(self._ask())
        except Exception as error:
            self._told.put(error)

    def answer(self, patience_seconds: float) -> Answer:
        """The answer; may be asked for once.

        Args:
            patience_seconds: How long it may take from the question on, not from now on.

        Raises:
            TimeoutError: None has come in time.
            Exception: What went wrong.
        """
        try:
            told = self._told.get(timeout=max(0.0, self._asked_at + patience_seconds - monotonic()))
        except Empty:
            raise TimeoutError(f"no answer within {patience_seconds:g} s") from None
        if isinstance(told, Exception):
            raise told
        return told
