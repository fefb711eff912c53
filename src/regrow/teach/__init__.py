"""What operators teach: their words for groups of failures, rules, and what those would change. Pure.

The journal of lessons in the ledger is the truth; `learn` makes of it what a process knows.
"""

from regrow.teach.common import common_pattern, propose
from regrow.teach.judge import judged
from regrow.teach.learn import learn
from regrow.teach.trial import Change, Trial

__all__ = ["Change", "Trial", "common_pattern", "judged", "learn", "propose"]
