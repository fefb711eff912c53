"""The nouns: frozen values that the stages hand to one another.

Read them in this order; it is the order in which a failed task meets them:
`Failure` (what happened) -> `Verdict` (why) -> `Decision` (what to do) -> `Message` (who is told) -> `Handled` (all).
Times are aware datetimes in UTC; durations are `timedelta`, or seconds where the name ends in `_seconds`.
"""

from regrow.model.category import (
    BUSINESS,
    CATEGORIES,
    CONFIG,
    DATA,
    NETWORK,
    SYSTEM,
    TEMPORARY,
    UNKNOWN,
    Audience,
    Category,
)
from regrow.model.failure import (
    Cause,
    Failure,
    Header,
    TaskOptions,
    type_of,
)
from regrow.model.figures import (
    Alert,
    Breakdown,
    Figures,
    Notice,
)
from regrow.model.judgement import (
    Action,
    Decision,
    Evidence,
    Handled,
    History,
    Message,
    Plan,
    Reason,
    Verdict,
)
from regrow.model.presence import (
    DISPATCHER,
    WORKER,
    Begun,
    Member,
)
from regrow.model.record import (
    DRAIN,
    AttemptRecord,
    Balance,
    Deed,
    Note,
    Record,
)
from regrow.model.state import (
    State,
)
from regrow.model.work import (
    Answer,
    Due,
    DueMessage,
    Ending,
    Hindrance,
    Lease,
    Left,
    Leftover,
    Refusal,
    ScanResult,
    Tick,
)

__all__ = [
    "BUSINESS",
    "CATEGORIES",
    "CONFIG",
    "DATA",
    "DISPATCHER",
    "DRAIN",
    "NETWORK",
    "SYSTEM",
    "TEMPORARY",
    "UNKNOWN",
    "WORKER",
    "Action",
    "Alert",
    "Answer",
    "AttemptRecord",
    "Audience",
    "Balance",
    "Begun",
    "Breakdown",
    "Category",
    "Cause",
    "Decision",
    "Deed",
    "Due",
    "DueMessage",
    "Ending",
    "Evidence",
    "Failure",
    "Figures",
    "Handled",
    "Header",
    "Hindrance",
    "History",
    "Lease",
    "Left",
    "Leftover",
    "Member",
    "Message",
    "Note",
    "Notice",
    "Plan",
    "Reason",
    "Record",
    "Refusal",
    "ScanResult",
    "State",
    "TaskOptions",
    "Tick",
    "Verdict",
    "type_of",
]
