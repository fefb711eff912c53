"""A parked task keeps its waiters, chain, chord, links and errbacks: they end as if it had never failed, or exactly once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from celery import chain, chord, group

from regrow.model import State
from tests.celery_worker import Site, gather, new_key, until

#: Patience of a client, in seconds.
LONG = 60


def get(result: Any) -> Any:
    """The value of a result."""
    return result.get(timeout=LONG, interval=0.05)


def test_waiter_gets_the_value(project: Site) -> None:
    """A client that waits gets the value under the same id; Celery has said RETRY, never FAILURE."""
    key = new_key()
    result = project.sig("flaky", key, 2, "value").delay()
    assert get(result) == "value"
    assert project.runs(key) == 3
    assert project.runs(f"signal-failure-{result.id}") == 0
    assert project.runs(f"signal-retry-{result.id}") == 2
    record = project.settled(result.id, State.RECOVERED)
    assert record.attempts == 2
    assert [run.number for run in record.history] == [1, 2]


def test_chain_goes_on(project: Site) -> None:
    """The steps after a parked step run once, with its value, in whatever place it stands."""
    first, last = new_key(), new_key()
    begun = chain(project.sig("flaky", first, 1, 3), project.sig("plus", 4)).apply_async()
    ended = chain(project.sig("plus", 1, 1), project.sig("after", last, 2)).apply_async()
    assert get(begun) == 7
    assert get(ended) == 2
    assert (project.runs(first), project.runs(last)) == (2, 3)
    for step in (begun.parent, ended):
        project.settled(step.id, State.RECOVERED)


@pytest.mark.parametrize("fails", [[1, 0, 0], [2, 0, 1], [1, 1, 1]])
def test_chord_body_runs_once(project: Site, fails: list[int]) -> None:
    """One, two or all members of a chord parked: the body runs once, with the right values in order."""
    keys = [new_key() for _ in fails]
    body = new_key()
    header = [
        project.sig("flaky", key, times, place) for place, (key, times) in enumerate(zip(keys, fails, strict=True))
    ]
    assert get(chord(header)(project.sig("after", body))) == [0, 1, 2]
    assert [project.runs(key) for key in keys] == [times + 1 for times in fails]
    assert project.marks(f"{body}-got") == ["[0, 1, 2]"]


def test_parked_body_and_nested_canvas(project: Site) -> None:
    """A parked body, a chain in a header, a chord in a chain and a group in a chain all end with the right values."""
    keys = [new_key() for _ in range(9)]
    flaky = [project.sig("flaky", key, 1, place) for place, key in enumerate(keys)]
    body = chord(
        [flaky[0], project.sig("plus", 1, 1)], project.sig("after", keys[1], 1) | project.sig("after", keys[2])
    )
    in_header = chord(
        [flaky[3] | project.sig("plus", 10), project.sig("plus", 1, 1) | project.sig("after", keys[4], 1)],
        project.sig("after", new_key()),
    )
    in_chain = chain(
        project.sig("plus", 1, 1),
        chord([project.sig("after", keys[5], 1), project.sig("after", keys[6])], project.sig("after", keys[7], 1)),
        project.sig("after", new_key()),
    )
    group_in_chain = chain(
        flaky[8], group(project.sig("plus", 1), project.sig("plus", 2)), project.sig("after", new_key())
    )
    results = [one.apply_async() for one in (body, in_header, in_chain, group_in_chain)]
    assert gather(results) == [[0, 2], [13, 2], [2, 2], [9, 10]]
    assert [project.runs(key) for key in keys] == [2, 2, 1, 2, 2, 2, 1, 2, 2]


def test_links_fire_once_and_errbacks_never(project: Site) -> None:
    """A recovered task fires its link once and none of its errbacks, new or old."""
    key = new_key()
    result = project.sig("flaky", key, 2, 5).apply_async(
        link=project.sig("linked", key), link_error=[project.sig("errback"), project.sig("old_errback")]
    )
    assert get(result) == 5
    until(lambda: project.runs(f"link-{key}"), "the link")
    project.settled(result.id, State.RECOVERED)
    assert project.marks(f"link-{key}") == ["5"]
    assert project.runs(f"errback-{result.id}") + project.runs(f"old-errback-{result.id}") == 0


def test_exhausted_task_ends_with_its_own_error(project: Site) -> None:
    """Retries used up: FAILURE with the task's own exception, each errback once, no link, and Celery's signal once."""
    key = new_key()
    result = project.sig("flaky", key, 99).apply_async(
        link=project.sig("linked", key), link_error=[project.sig("errback"), project.sig("old_errback")]
    )
    error = project.error(result)
    assert isinstance(error, ConnectionRefusedError)
    assert error.args == (111, "Connection refused, run 4")
    until(lambda: project.runs(f"old-errback-{result.id}"), "the old errback")
    project.settled(result.id, State.EXHAUSTED)
    assert project.marks(f"errback-{result.id}") == ["ConnectionRefusedError"]
    assert project.runs(f"old-errback-{result.id}") == 1
    assert project.runs(f"signal-failure-{result.id}") == 1
    assert project.runs(f"link-{key}") == 0
    assert project.runs(key) == 4


def test_exhausted_member_fails_chord_and_chain(project: Site) -> None:
    """An exhausted chord member fails the body with ChordError; an exhausted step's tail never runs."""
    body, tail = new_key(), new_key()
    chorded = chord(
        [project.sig("flaky", new_key(), 99), project.sig("plus", 1, 1)],
        project.sig("after", body).on_error(project.sig("errback")),
    )()
    chained = chain(project.sig("flaky", new_key(), 99), project.sig("after", tail)).apply_async()
    error = project.error(chorded)
    assert "ConnectionRefusedError" in repr(error)
    assert type(error).__name__ == "ChordError"
    assert isinstance(project.error(chained.parent), ConnectionRefusedError)
    project.settled(chained.parent.id, State.EXHAUSTED)
    assert project.runs(body) + project.runs(tail) == 0


def test_unrecoverable_error_fails_at_once(project: Site) -> None:
    """What time cannot heal fails natively and at once: FAILURE, errbacks once, chain and chord closed."""
    key, body = new_key(), new_key()
    result = project.sig("broken", key).apply_async(link_error=[project.sig("errback"), project.sig("old_errback")])
    chorded = chord([project.sig("broken", new_key()), project.sig("plus", 1, 1)], project.sig("after", body))()
    assert isinstance(project.error(result), ZeroDivisionError)
    assert type(project.error(chorded)).__name__ == "ChordError"
    until(lambda: project.runs(f"old-errback-{result.id}"), "the old errback")
    assert project.settled(result.id, State.HANDED_OVER).attempts == 1
    assert project.marks(f"errback-{result.id}") == ["ZeroDivisionError"]
    assert (project.runs(key), project.runs(body)) == (1, 0)


def test_recovered_then_fails_for_good(project: Site) -> None:
    """A parked task whose retry fails unrecoverably ends as FAILURE with the new error, its chord closed."""
    key, body = new_key(), new_key()
    member = project.sig("turns_bad", key)
    chorded = chord([member.on_error(project.sig("errback")), project.sig("plus", 1, 1)], project.sig("after", body))()
    assert type(project.error(chorded)).__name__ == "ChordError"
    assert (project.runs(key), project.runs(body)) == (2, 0)


def test_native_retries_go_first(project: Site) -> None:
    """`self.retry` and `autoretry_for` run first; the ledger sees only the last failure, and the task recovers later."""
    keys = [new_key() for _ in range(4)]
    auto = project.sig("auto", keys[0], 3).delay()
    native = project.sig("native", keys[1], 2).delay()
    used_up = project.sig("auto", keys[2], 99).delay()
    healed_natively = project.sig("auto", keys[3], 2).delay()
    assert gather([auto, native, healed_natively]) == [4, 3, 3]
    assert isinstance(project.error(used_up), ConnectionRefusedError)
    assert project.settled(auto.id, State.RECOVERED).attempts == 1
    assert project.settled(native.id, State.RECOVERED).attempts == 1
    assert project.record(healed_natively.id) is None
    # One run and two native retries, then three retries of ours that are one run each.
    project.settled(used_up.id, State.EXHAUSTED)
    assert project.runs(keys[2]) == 6


def test_properties_survive(project: Site) -> None:
    """Arguments, headers, priority, queue, stamps, limits and family ids are the same on the retry."""
    key, plain_key = new_key(), new_key()
    options = {
        "headers": {"tenant": "seven", "user_id": "42"},
        "priority": 5,
        "expires": 600,
        "time_limit": 90,
        "soft_time_limit": 80,
        "root_id": "root-of-all",
    }
    sent = []
    for fails, one in ((1, key), (0, plain_key)):
        signature = project.sig("show", one, fails)
        signature.stamp(team="red")
        sent.append(signature.apply_async(**options))
    retried, plain = gather(sent)
    ours = retried["headers"].pop("regrow")
    assert ours["attempt"] == 2
    assert retried.pop("id") == sent[0].id
    assert retried.pop("args")[1:] == [1]
    assert retried.pop("expires") is None
    assert isinstance(plain["expires"], str)  # Celery hands the expiry out as it came, as text
    del plain["id"], plain["args"], plain["expires"]
    assert retried == plain
    assert (plain["priority"], plain["routing_key"], plain["timelimit"]) == (5, project.name, [90, 80])
    assert project.settled(sent[0].id, State.RECOVERED).user_id == "42"


def test_rich_json_arguments_survive(project: Site) -> None:
    """Dates, decimals, ids and bytes come back as what they were."""
    value = {
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "sum": Decimal("1.10"),
        "id": UUID(int=7),
        "raw": b"\x00\xff",
        "text": "中文",
    }
    results = [project.sig("pickled", value, new_key(), fails).delay() for fails in (0, 1)]
    plain, retried = gather(results)
    assert retried == plain


def test_arguments_that_json_would_change_are_not_parked(project: Site) -> None:
    """A pickled call with integer keys or a set cannot be kept as JSON: it fails natively; a plain one is retried."""
    keys = [new_key() for _ in range(4)]
    calls = [({1: "one"}, keys[0]), ({"a", "b"}, keys[1]), ((1, 2), keys[2])]
    sent = [project.sig("pickled", value, key, 1).apply_async(serializer="pickle") for value, key in calls]
    for one in sent:
        assert isinstance(project.error(one), ConnectionRefusedError)
        assert project.settled(one.id, State.HANDED_OVER).reason == "call_not_kept"
    plain = project.sig("pickled", {"one": [1]}, keys[3], 1).apply_async(serializer="pickle")
    assert get(plain) == "{'one': [1]}"


def test_replaced_task_recovers(project: Site) -> None:
    """A task that replaces itself and then parks recovers under the same id."""
    key = new_key()
    assert get(project.sig("replaced", key, 1).delay()) == 9
    assert project.runs(key) == 2


def test_many_at_once(project: Site) -> None:
    """Thirty chords with parked members all run their bodies once."""
    bodies = [new_key() for _ in range(15)]
    results = [
        chord([project.sig("flaky", new_key(), n % 3, n), project.sig("flaky", new_key(), 1, n)])(
            project.sig("after", body)
        )
        for n, body in enumerate(bodies)
    ]
    assert gather(results) == [[n, n] for n in range(15)]
    assert [project.marks(f"{body}-got") for body in bodies] == [[json.dumps([n, n])] for n in range(15)]
    assert project.balance().balanced
