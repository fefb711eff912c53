"""Tasks whose ends are as hostile as Python allows."""

from __future__ import annotations

from typing import Any

from tests.integration.proj_site import mark, task


class SilentError(Exception):
    """An exception that refuses to be read."""

    def __str__(self) -> str:
        """Refuse."""
        raise RuntimeError("no")

    __repr__ = __str__

    def __getattribute__(self, name: str) -> Any:
        """Refuse what is not Python's own."""
        if name.startswith("__") or name in ("args", "with_traceback", "add_note"):
            return super().__getattribute__(name)
        raise ValueError(name)


class Liar(str):  # noqa: SLOT000
    """Text that lies about itself."""

    def __len__(self) -> int:
        """A lie."""
        return -1  # noqa: PLE0303

    def __getitem__(self, index: Any) -> Any:
        """Refuse."""
        raise RuntimeError("no")

    def __iter__(self) -> Any:
        """Refuse."""
        raise RuntimeError("no")


def _loop() -> Exception:
    first, second = ConnectionError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def _deep(depth: int) -> Exception:
    error: Exception = ConnectionRefusedError(111, "Connection refused")
    for number in range(depth):
        outer = ValueError(f"layer {number}")
        outer.__cause__ = error
        error = outer
    return error


def _group(depth: int) -> Exception:
    error: Exception = ConnectionRefusedError(111, "Connection refused")
    for number in range(depth):
        error = ExceptionGroup(f"group {number}", [error, ValueError("x")])
    return error


def _recursion(depth: int = 0) -> None:
    _recursion(depth + 1)


def _odd_module() -> Exception:
    kind = type("Odd", (Exception,), {})
    kind.__module__ = 7  # type: ignore[assignment]
    kind.__qualname__ = "\x1b[31m<b>odd</b>\n\0"
    return kind("odd")


MAKERS: dict[str, Any] = {
    "silent": lambda: SilentError("x"),
    "large": lambda: ValueError("x" * 10_000_000),
    "large_zh": lambda: ValueError("连接超时" * 2_000_000),
    "nul": lambda: ValueError("a\0b\0"),
    "surrogate": lambda: ValueError("\ud800\udfff lone"),
    "escapes": lambda: ConnectionError("\x1b]0;owned\x07\x1b[2J\x1b[31mred\r\n\u202ereversed\u2028next"),
    "markup": lambda: ValueError("[bold red]x[/bold red] <script>alert(1)</script> {task} %s %(a)s"),
    "liar": lambda: ValueError(Liar("connection refused")),
    "loop": _loop,
    "deep": lambda: _deep(3_000),
    "group": lambda: _group(200),
    "wide": lambda: ExceptionGroup("wide", [ValueError(str(one)) for one in range(5_000)]),
    "odd_module": _odd_module,
    "arguments": lambda: ValueError({"a": object()}, b"\xff\xfe", Liar("x"), float("nan"), 10**5000),
    "base": lambda: type("Own", (ConnectionError,), {"__init__": lambda self: None})(),
}


@task()
def hostile(key: str, kind: str) -> None:
    """Fail with something hostile."""
    mark(key)
    if kind == "recursion":
        _recursion()
    raise MAKERS[kind]()  # noqa: RSE102


@task(name="tests.[red]<b>markup</b>[/red]\x1b[31m 名字")
def markup(key: str) -> None:
    """A task whose name is markup."""
    mark(key)
    raise ZeroDivisionError("division by zero")


@task()
def takes_anything(*args: Any, **kwargs: Any) -> None:
    """Fail whatever comes."""
    raise ConnectionRefusedError(111, "Connection refused")
