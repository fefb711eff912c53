"""One thing to several receivers, each of which may be down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def send_to_all(
    senders: Iterable[Callable[[Mapping[str, Any]], object]], thing: Mapping[str, Any], problem: str
) -> None:
    """Give it to every one of them.

    Raises:
        ExceptionGroup: Some did not take it, as `problem` says; the others have it.
    """
    errors = []
    for send in senders:
        try:
            send(thing)
        except Exception as error:  # noqa: BLE001  # one that is down must not keep it from the others
            errors.append(error)
    if errors:
        raise ExceptionGroup(problem, errors)
