"""For tests, ours and plug-in authors': a clock that stands still, builders, doubles of the ports, a suite for stores.

A double here is a real implementation of its port that keeps what it was given and refuses when it is told to.
`exercise_store` is the contract of `ports.Store`: a store that passes can carry Regrow. With pytest:

    @pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
    def test_store(check): check(MyStore(an_empty_database()))
"""

from regrow.testing.doubles import (
    GUIDE,
    START,
    FrozenClock,
    RecordingChannel,
    RecordingDispatcher,
    a_failure,
    a_message,
    a_regrow,
    a_verdict,
    by_type,
)
from regrow.testing.lessons import a_lesson
from regrow.testing.store import LEASE, STORE_CHECKS, claim, exercise_store, parked_task, start

__all__ = [
    "GUIDE",
    "LEASE",
    "START",
    "STORE_CHECKS",
    "FrozenClock",
    "RecordingChannel",
    "RecordingDispatcher",
    "a_failure",
    "a_lesson",
    "a_message",
    "a_regrow",
    "a_verdict",
    "by_type",
    "claim",
    "exercise_store",
    "parked_task",
    "start",
]
