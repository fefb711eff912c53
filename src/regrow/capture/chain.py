"""An exception object -> its chain of causes."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from regrow.capture.clean import NAME_LIMIT, call, clean, read, text_of
from regrow.capture.codes import codes_of, package_of_file, retry_after_of
from regrow.capture.text import JSON_DETAILS, details
from regrow.model import Cause

#: Longest chain that is kept, in exceptions.
CHAIN_LIMIT = 16
_FRAME_LIMIT = 200

# Where libraries keep the exception that they wrap. Source: SQLAlchemy `orig`, urllib3 and urllib `reason`,
# Celery Retry `exc`, azure-core `inner_exception`, aiohttp `os_error`, google-auth and others `original_*`.
_WRAPPED = ("orig", "reason", "exc", "inner_exception", "original_exception", "original_error", "os_error")

_NOT_NAMED = frozenset({"object", "BaseException"})


def causes_from_exception(exc: BaseException) -> tuple[Cause, ...]:
    """The exception and its causes, outermost first, with every machine-readable fact they carry.

    Follows `__cause__`, else `__context__` unless suppressed, then the exceptions that libraries keep in
    attributes, in `args` and in groups. Cycles are cut; at most CHAIN_LIMIT causes, TEXT_LIMIT characters each.

    Args:
        exc: Any exception, however hostile.
    """
    causes: list[Cause] = []
    waiting: list[BaseException] = [exc]
    seen: set[int] = set()
    while waiting and len(causes) < CHAIN_LIMIT:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        causes.extend(_causes(current))
        waiting.extend(reversed(list(_inside(current))))
    return tuple(causes[:CHAIN_LIMIT])


def class_name(cls: type) -> str:
    """Dotted name as tracebacks print it: without `builtins.`."""
    module, name = read(cls, "__module__"), read(cls, "__qualname__")
    name = clean(name, NAME_LIMIT) if isinstance(name, str) else "?"
    if not isinstance(module, str) or module == "builtins":
        return name
    return f"{clean(module, NAME_LIMIT)}.{name}"


def _causes(exc: BaseException) -> Iterator[Cause]:
    """The exception itself, and what its message says in JSON (G23)."""
    bases = tuple(name for cls in _mro(exc) if (name := class_name(cls)) not in _NOT_NAMED)
    message = text_of(exc)
    hidden = _unpickleable(exc)
    if hidden is not None:
        bases, message = (hidden,), text_of(read(exc, "exc_args"))
    codes = codes_of(exc, bases)
    package = _package(read(exc, "__traceback__"))
    if package:
        codes += (("package", package),)
    inner = details(message)
    if inner is not None:
        codes += (JSON_DETAILS,)
    name = bases[0] if bases else class_name(type(exc))
    yield Cause(name, message, bases, codes, retry_after_of(exc))
    if inner is not None:
        yield inner


def _mro(exc: BaseException) -> tuple[type, ...]:
    # Not `exc.__class__`, which an exception may fake; and not `cls.__mro__`, which a metaclass may.
    mro = call(type.__dict__["__mro__"].__get__, type(exc))
    return mro if isinstance(mro, tuple) else (type(exc),)


def _unpickleable(exc: BaseException) -> str | None:
    """The true class name that Celery's UnpickleableExceptionWrapper stands for."""
    if type(exc).__name__ != "UnpickleableExceptionWrapper":
        return None
    module, name = read(exc, "exc_module"), read(exc, "exc_cls_name")
    if not (isinstance(module, str) and isinstance(name, str)):
        return None
    name, module = clean(name, NAME_LIMIT), clean(module, NAME_LIMIT)
    return name if module in ("", "builtins") else f"{module}.{name}"


def _inside(exc: BaseException) -> Iterator[BaseException]:
    """The exceptions directly behind this one, the likeliest cause first."""
    for name in _WRAPPED:
        wrapped = read(exc, name)
        if _is_exception(wrapped):
            yield wrapped  # type: ignore[misc]
    members = read(exc, "exceptions")
    for group in (read(exc, "args"), members):
        if type(group) in (tuple, list):
            yield from (item for item in group[:CHAIN_LIMIT] if _is_exception(item))  # type: ignore[index]
    cause = read(exc, "__cause__")
    if not _is_exception(cause) and not read(exc, "__suppress_context__"):
        cause = read(exc, "__context__")
    if _is_exception(cause):
        yield cause  # type: ignore[misc]


def _is_exception(thing: object) -> bool:
    # Not isinstance: it would ask the thing's own `__class__`.
    return issubclass(type(thing), BaseException)


def _package(trace: object) -> str:
    """The installed package whose code raised: it tells a database's refused connection from any other."""
    package = ""
    for _ in range(_FRAME_LIMIT):
        if not isinstance(trace, TracebackType):
            break
        package = package_of_file(trace.tb_frame.f_code.co_filename) or package
        trace = trace.tb_next
    return package
