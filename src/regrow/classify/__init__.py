"""Failure -> Verdict: why a task failed, and which fact says so.

Five kinds of fact are read, all evidence is kept, and the most specific one wins (`Rule.rank`): the user's own
patterns, structured text, codes, exception classes, patterns over messages. At equal rank the root cause beats its
wrapper; where facts of equal rank in one exception disagree, the label that does not retry wins.
What the labels mean: spec/labels.md. The rules themselves are data: `regrow/rules/*.toml`.

    rulebook  what is known
    facts     what a failure says
    verdict   which fact wins
"""

from regrow.classify.rulebook import USER_RANK, Pattern, Rule, Rulebook, code_key
from regrow.classify.verdict import classify

__all__ = ["USER_RANK", "Pattern", "Rule", "Rulebook", "classify", "code_key"]
