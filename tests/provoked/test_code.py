"""Plain programming errors, imports, settings from the environment, and texts that say nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import importlib.metadata
import locale
import operator
import os
import pickle
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

from regrow.model import BUSINESS, CONFIG, DATA, UNKNOWN
from tests.provoked.table import Case, Field, check

code = Field("code")


class _Colour(Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class _Point:
    x: int


def _nothing() -> Any:
    return None


def _recursion() -> None:
    _recursion()


def _changed() -> None:
    things = {1: 1}
    for key in things:
        things[key + 1] = 1


def _unbound() -> None:
    if os.environ.get("REGROW_NO_SUCH"):
        total = 1
    print(total)


def _stop() -> None:
    def generator() -> Any:
        yield next(iter([]))

    list(generator())


def _not_implemented() -> None:
    raise NotImplementedError


def _asserted() -> None:
    order = {"total": -1}
    assert order["total"] >= 0


def _group() -> None:
    raise ExceptionGroup("two orders failed", [ValueError("bad weight"), KeyError("sku")])


async def _coroutine() -> None:
    await asyncio.sleep(0)


def _two_loops() -> None:
    async def inner() -> None:
        coroutine = _coroutine()
        try:
            asyncio.run(coroutine)
        finally:
            coroutine.close()

    asyncio.run(inner())


def _closed_loop() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    loop.call_soon(print)


def _lock() -> None:
    threading.Lock().release()


def _abstract() -> None:
    import abc

    class Base(abc.ABC):
        @abc.abstractmethod
        def run(self) -> None: ...

    Base()  # type: ignore[abstract]


CASES: list[tuple[str, Callable[[], object]]] = [
    ("attribute-of-none", lambda: _nothing().total),
    ("attribute", lambda: "x".no_such),  # type: ignore[attr-defined]
    ("key", lambda: {"sku": 1}["weight"]),
    ("index", lambda: list(range(1))[5]),
    ("pop", lambda: list(range(0)).pop()),
    ("subscript-of-none", lambda: _nothing()["total"]),
    ("call-of-none", lambda: _nothing()()),
    ("add", lambda: 1 + "1"),  # type: ignore[operator]
    ("concatenate", lambda: "total: " + 3),  # type: ignore[operator]
    ("compare", lambda: 1 < "2"),  # type: ignore[operator]
    ("iterate", lambda: list(_nothing())),
    ("missing-argument", lambda: _Point()),  # type: ignore[call-arg]
    ("unknown-argument", lambda: _Point(x=1, y=2)),  # type: ignore[call-arg]
    ("unhashable", lambda: {[]: 1}),
    ("division", lambda: 1 / 0),
    ("modulo", lambda: 1 % 0),
    ("overflow", lambda: 10.0**400),
    ("integer-of-infinity", lambda: int(float("inf"))),
    ("unpack", lambda: (lambda a, b: a)(*[1, 2, 3])),
    ("unpack-few", lambda: (lambda pair: [a for a, b in pair])([(1,)])),
    ("root-of-minus-one", lambda: __import__("math").sqrt(-1)),
    ("name", lambda: no_such_name),  # type: ignore[name-defined]  # noqa: F821
    ("unbound", _unbound),
    ("recursion", _recursion),
    ("changed-while-read", _changed),
    ("generator-stop", _stop),
    ("list-remove", lambda: [1].remove(2)),
    ("text-index", lambda: "abc".index("x")),
    ("enumeration", lambda: _Colour("green")),
    ("enumeration-name", lambda: _Colour["GREEN"]),
    ("frozen", lambda: setattr(_Point(1), "x", 2)),
    ("format", lambda: str.format("{} {}", 1)),
    ("format-key", lambda: str.format("{total}", weight=1)),
    ("format-code", lambda: f"{'x':d}"),
    ("percent", lambda: operator.mod("%d", "x")),
    ("syntax", lambda: compile("if True print(1)", "rules.py", "exec")),
    ("indentation", lambda: compile("if 1:\nx = 1", "rules.py", "exec")),
    ("evaluate", lambda: eval("1 +")),
    ("unpicklable", lambda: pickle.dumps(lambda: 1)),
    ("unpicklable-lock", lambda: pickle.dumps(threading.Lock())),
    ("loop-in-a-loop", _two_loops),
    ("closed-loop", _closed_loop),
    ("release-of-a-free-lock", _lock),
    ("abstract", _abstract),
    ("range-step", lambda: range(1, 2, 0)),
    ("character", lambda: chr(-1)),
    ("negative-shift", lambda: 1 << -1),
    ("group", _group),
]
for _id, _provoke in CASES:
    code.add(_id, DATA, _provoke)


def _import_name() -> None:
    from os import no_such_name  # type: ignore[attr-defined]  # noqa: F401


def _business() -> None:
    raise RuntimeError("Order 4711 has already been cancelled")


def _say(error: Exception) -> Callable[[], None]:
    def provoke() -> None:
        raise error

    return provoke


code.add("not-implemented", (DATA, CONFIG), _not_implemented)
code.add("assertion", (DATA, UNKNOWN), _asserted)
code.add("missing-module", CONFIG, lambda: importlib.import_module("no_such_package"))
code.add("missing-submodule", CONFIG, lambda: importlib.import_module("json.no_such"))
code.add("name-in-a-module", (CONFIG, DATA), _import_name)
code.add("missing-distribution", CONFIG, lambda: importlib.metadata.version("no-such-package"))
code.add("missing-locale", CONFIG, lambda: locale.setlocale(locale.LC_ALL, "xx_XX"))
code.add("missing-setting-in-environment", CONFIG, lambda: os.environ["REGROW_PROVOKED_DATABASE_URL"])
code.add("missing-key-in-environment", CONFIG, lambda: os.environ["STRIPE_API_KEY"])
code.add("setting-that-is-no-number", (CONFIG, DATA), lambda: int(os.environ.get("NO_SUCH_PORT", "http")))
code.add("silent-exception", UNKNOWN, _say(Exception()))
code.add("exception-that-says-nothing", UNKNOWN, _say(Exception("Something went wrong")))
code.add("runtime-error-that-says-nothing", UNKNOWN, _say(RuntimeError("Error")))
code.add("own-business-sentence", BUSINESS, _business)


@code.case("wrapped-in-another", DATA)
def _wrapped() -> None:
    try:
        int("twelve")
    except ValueError as error:
        raise RuntimeError("import of row 7 failed") from error


@code.each()
def test_code(case: Case) -> None:
    """The same code fails again on the same input."""
    check(case)
