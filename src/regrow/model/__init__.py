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
from regrow.model.finding import (
    Finding,
    Level,
    Symptom,
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
    AttemptRecord,
    Balance,
    Deed,
    Note,
    Record,
)
from regrow.model.setup import (
    AppFacts,
    BrokerFacts,
    FolderFacts,
    LedgerFacts,
    QueueFacts,
    ResultsFacts,
    Scheduled,
    SetUp,
    SpoolFacts,
    Switches,
    TaskFacts,
    WorkersFacts,
)
from regrow.model.state import (
    State,
)
from regrow.model.work import (
    Answer,
    Due,
    DueMessage,
    Ending,
    Lease,
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
    "NETWORK",
    "SYSTEM",
    "TEMPORARY",
    "UNKNOWN",
    "WORKER",
    "Action",
    "Alert",
    "Answer",
    "AppFacts",
    "AttemptRecord",
    "Audience",
    "Balance",
    "Begun",
    "Breakdown",
    "BrokerFacts",
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
    "Finding",
    "FolderFacts",
    "Handled",
    "Header",
    "History",
    "Lease",
    "LedgerFacts",
    "Level",
    "Member",
    "Message",
    "Note",
    "Notice",
    "Plan",
    "QueueFacts",
    "Reason",
    "Record",
    "Refusal",
    "ResultsFacts",
    "ScanResult",
    "Scheduled",
    "SetUp",
    "SpoolFacts",
    "State",
    "Switches",
    "Symptom",
    "TaskFacts",
    "TaskOptions",
    "Tick",
    "Verdict",
    "WorkersFacts",
    "type_of",
]
