"""What is kept of a call without reading it back is what reading it back would give."""

import math

from hypothesis import example, given
from hypothesis import strategies as st
from kombu.utils.json import dumps, loads

from regrow.adapters.celery.envelope import _certain, _same

KEYS = st.one_of(st.text(max_size=5), st.sampled_from(["__type__", "__value__"]), st.integers())
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=5), st.binary(max_size=3)
)
VALUES = st.recursive(
    PLAIN,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.tuples(inside, inside),
        st.dictionaries(KEYS, inside, max_size=3),
        st.dates(),
        st.decimals(),
    ),
    max_leaves=8,
)


@given(VALUES)
@example("\ud83d\ude00")
@example({"\ud83d": 1})
@example({"__type__": "uuid", "__value__": "no"})
@example({"a": math.nan, "b": math.inf, "c": -0.0, "d": 10**400})
def test_a_certain_value_survives_json(value: object) -> None:
    if _certain(value):
        assert _same(value, loads(dumps(value)), exact=True)


def test_a_plain_call_is_certain() -> None:
    assert _certain([4711, 12.5, "text", "中文", None, True, {"lines": [{"sku": "A-100"}]}])
