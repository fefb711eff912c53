"""Text that can be stored anywhere, and attributes that can be read whatever they do."""

from __future__ import annotations

from regrow.model import Cause

#: Longest text kept of one exception, in characters; the middle is cut out, for the fact stands at either end.
TEXT_LIMIT = 8_000
#: Of that, at the end behind the cut.
TAIL_LIMIT = 2_000
#: Longest class name or code kept, in characters.
NAME_LIMIT = 200


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """`text` cut to `limit` characters, without NUL and lone surrogates (PostgreSQL and UTF-8 refuse them).

    Unbound `str` methods, because a subclass of str may override any of them.
    """
    if str.__len__(text) > limit:
        tail = min(TAIL_LIMIT, limit // 4)
        head = str.__getitem__(text, slice(0, limit - tail - 3))
        text = head + "..." + str.__getitem__(text, slice(-tail, None))
    if type(text) is str and text.isascii() and "\x00" not in text:  # most texts, and quicker to see
        return text
    whole = str.encode(text, "utf-8", "replace").decode("utf-8")
    return whole.replace("\x00", "\ufffd")


def read(thing: object, name: str) -> object:
    """The attribute, or None if there is none or reading it fails.

    KeyboardInterrupt and SystemExit pass: they are orders to this process, not part of the failure.
    """
    try:
        return getattr(thing, name, None)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return None


def call(function: object, *args: object) -> object:
    """What `function(*args)` returns, or None if it is not callable or fails."""
    try:
        return function(*args)  # type: ignore[operator]  # what is no function fails here, and that is an answer
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return None


def text_of(thing: object, limit: int = TEXT_LIMIT) -> str:
    """`str(thing)`, else its `repr`, else '': cleaned and cut."""
    for form in (str, repr):
        text = call(form, thing)
        if isinstance(text, str):
            return clean(text, limit)
    return ""


def display(cause: Cause) -> str:
    """The cause as Python prints it: `type: message`."""
    return f"{cause.type}: {cause.message}" if cause.type and cause.message else cause.type or cause.message
