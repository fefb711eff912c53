"""Decision -> the words for the person who can act on it. Pure: the language comes in as a value.

An administrator gets the cause and the error; an end user gets advice, and never an exception text, a host or a path.
"""

from regrow.notify.advice import advice, cause
from regrow.notify.event import event
from regrow.notify.message import compose, compose_silent
from regrow.notify.phrase import duration, explain, name, refusal, retry_text
from regrow.notify.story import story

__all__ = [
    "advice",
    "cause",
    "compose",
    "compose_silent",
    "duration",
    "event",
    "explain",
    "name",
    "refusal",
    "retry_text",
    "story",
]
