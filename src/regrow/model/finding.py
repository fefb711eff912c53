"""What an examination of a set-up finds: named, weighed, and with a mend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    PROBLEM = "problem"  # failures are lost, or what should happen does not
    WARNING = "warning"  # it works, and may not be what is wanted
    FINE = "fine"


class Symptom(StrEnum):
    """Names of the findings; they stay, for programs. The table in docs/doctor.md says what each one means."""

    NOT_INSTALLED = "not_installed"
    TASKS_NOT_LOADED = "tasks_not_loaded"
    OBSERVING = "observing"
    RETRIES_OFF = "retries_off"
    MESSAGES_OFF = "messages_off"

    LEDGER = "ledger"
    LEDGER_UNREACHABLE = "ledger_unreachable"
    LEDGER_NOT_SET_UP = "ledger_not_set_up"
    LEDGER_OUTDATED = "ledger_outdated"
    LEDGER_TOO_NEW = "ledger_too_new"
    LEDGER_UNBALANCED = "ledger_unbalanced"
    OVERDUE_WORK = "overdue_work"
    UNDELIVERED_MESSAGES = "undelivered_messages"
    OPEN_ALERTS = "open_alerts"

    DISPATCHER = "dispatcher"
    NO_DISPATCHER = "no_dispatcher"
    CLOCK_SKEW = "clock_skew"

    BROKER = "broker"
    BROKER_UNREACHABLE = "broker_unreachable"
    BROKER_LOSES_MESSAGES = "broker_loses_messages"
    NO_REDELIVERY = "no_redelivery"
    STARTS_TRACKED = "starts_tracked"
    ETA_ABOVE_VISIBILITY = "eta_above_visibility"
    RETRY_DELAY_ABOVE_VISIBILITY = "retry_delay_above_visibility"
    TIME_LIMIT_ABOVE_VISIBILITY = "time_limit_above_visibility"

    WORKERS = "workers"
    NO_WORKER = "no_worker"
    WORKERS_SILENT = "workers_silent"
    WORKER_WITHOUT_REGROW = "worker_without_regrow"
    QUEUES = "queues"
    PARKED_QUEUE_UNCONSUMED = "parked_queue_unconsumed"
    BEAT_QUEUE_UNCONSUMED = "beat_queue_unconsumed"
    DEFAULT_QUEUE_UNCONSUMED = "default_queue_unconsumed"

    RESULTS = "results"
    RESULTS_DISABLED = "results_disabled"
    RESULTS_UNREACHABLE = "results_unreachable"
    RESULTS_WITHOUT_CHORDS = "results_without_chords"

    FOLDERS = "folders"
    FOLDER_NOT_WRITABLE = "folder_not_writable"
    SPOOL_WAITING = "spool_waiting"
    SPOOL_ELSEWHERE = "spool_elsewhere"
    SPOOL_DAMAGED = "spool_damaged"
    SPOOL_NEARLY_FULL = "spool_nearly_full"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an examination has found.

    Args:
        name: Its stable name.
        level: How bad it is.
        text: What is wrong, with the value that is; one sentence.
        mend: How to mend it: a command or a setting; '' if nothing is wrong.
    """

    name: Symptom
    level: Level
    text: str
    mend: str = ""
