"""Everything that Regrow raises on purpose.

RegrowError
├── SettingsError      a setting, an option or a file of settings is wrong; raised at start only
│   └── StillParking   the ledger cannot be emptied while new tasks are parked in it
├── RuleError          a classification rule is wrong, or no engine will run its pattern
├── LedgerError        the ledger cannot be read or written
│   ├── Deadlock       two writers waited for each other, and the database has undone what this one did
│   ├── NotMigrated    its tables are missing or older than this version
│   └── Unkeepable     it can be reached, and refuses a value for ever
├── SpoolError         facts could not be kept on disk while the ledger was away
├── Poisoned           a task whose workers have died with it again and again is not begun once more
├── DispatchError      the message broker did not take a task that was due
└── DeliveryError      a channel did not take a message; `permanent` says that trying again is useless

Each message says what is wrong, where, and how to mend it.
"""


class RegrowError(Exception):
    """Something went wrong in Regrow itself, not in the user's task."""


class SettingsError(RegrowError):
    """A setting is wrong."""


class StillParking(SettingsError):
    """The ledger cannot be emptied in recover mode: set FAILURE_MODE=observe first."""


class RuleError(RegrowError):
    """A classification rule cannot be used."""


class LedgerError(RegrowError):
    """The ledger cannot be read or written; `permanent` says that trying again is useless."""

    permanent = False


class Deadlock(LedgerError):
    """Two writers waited for each other, and the database has undone this one's transaction: it may run once more."""


class NotMigrated(LedgerError):
    """The ledger's tables are missing or out of date: run `regrow db upgrade`."""


class SpoolError(RegrowError):
    """Facts cannot be kept on this machine's disk."""


class Poisoned(RegrowError):
    """A task is not begun again, because its workers have died with it."""


class Unkeepable(LedgerError):
    """The ledger refuses a value: trying again cannot help."""

    permanent = True


class DispatchError(RegrowError):
    """The broker did not take the message.

    Args:
        message: What happened, for the administrator.
        permanent: True if trying again cannot help (for example a call that no longer fits the task's arguments).
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class DeliveryError(RegrowError):
    """A channel did not take the message.

    Args:
        message: What happened, for the administrator.
        permanent: True if trying again cannot help (for example a rejected address).
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
