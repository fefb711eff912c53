"""The contract of `ports.Store` for what operators teach."""
# a contract suite asserts

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from regrow.model import NETWORK, TEMPORARY, Lesson, OwnRule, Teaching
from regrow.ports import Store
from regrow.testing.doubles import START, a_failure, a_regrow


def a_lesson(kind: Teaching = Teaching.LABEL, subject: str = "v1:a", **changes: object) -> Lesson:
    """A line of the journal; `changes` is any field of `Lesson`."""
    plain = Lesson(kind, subject, "ann", START, TEMPORARY.key)
    return replace(plain, **changes)  # type: ignore[arg-type]  # what a test gives


def check_lessons_are_kept_in_order(store: Store) -> None:
    """What was taught comes back whole and in order, from any line on; nobody writes behind what he has not read."""
    rule = OwnRule("r.1", NETWORK.key, ("a", "网关"), ("m",), ("n", "é"), "ann", "why")
    said = [
        a_lesson(because="it heals at night", text="courier quota 1"),
        a_lesson(Teaching.UNLABEL, category=""),
        a_lesson(Teaching.PROPOSE, "r.1", rule=rule),
        a_lesson(Teaching.ADD, "r.1", rule=rule, proposal="p.1", at=START + timedelta(seconds=1)),
        a_lesson(Teaching.DISABLE, "r.1", by="bob"),
    ]
    assert store.lessons(0) == []
    assert store.teach(said[:2], last=0)
    read = store.lessons(0)
    assert [replace(one, id=0) for one in read] == said[:2]
    assert [one.id for one in read] == sorted({one.id for one in read})
    assert not store.teach(said[2:], last=0)
    assert store.lessons(read[-1].id) == []
    assert store.teach(said[2:], last=read[-1].id)
    assert [replace(one, id=0) for one in store.lessons(read[-1].id)] == said[2:]


def check_strange_lessons_are_kept(store: Store) -> None:
    """Text that no database holds costs no lesson."""
    strange = "a\0b\ud800c\U0001f4a3 " + "long" * 200
    rule = OwnRule("r", NETWORK.key, (strange,), (strange,))
    assert store.teach([a_lesson(because=strange, text=strange, by=strange, rule=rule)], last=0)
    (read,) = store.lessons(0)
    assert read.because.startswith("a")
    assert read.rule is not None


def check_a_label_confirms_its_failure(store: Store) -> None:
    """The failure that a label was given by keeps the category; another one does not, and `undo` takes it away."""
    one, other = a_regrow(store).handle([a_failure(task_id="a"), a_failure(task_id="b")])
    assert store.teach([a_lesson(category=TEMPORARY.key)], last=0, failure=one.id)
    assert store.teach([a_lesson(Teaching.UNLABEL, category="")], last=store.lessons(0)[-1].id, failure=other.id)
    records = {record.task_id: record for record in store.changed(START, limit=10)}
    assert (records["a"].confirmed, records["b"].confirmed) == (TEMPORARY.key, "")
    assert [(note.by, note.detail) for note in records["a"].notes] == [("ann", TEMPORARY.key)]
    assert [(note.by, note.detail) for note in records["b"].notes] == [("ann", "")]
