"""Type-checked, never run: pins the public types, as a user's own code meets them."""

from celery import Celery

import regrow

app = Celery("shop")
regrow.install(app, dispatcher=True, mode="recover", database_url="sqlite:///regrow.db")


def watch(ledger_url: str) -> int:
    """A user's script that looks at the pipeline."""
    settings = regrow.Settings(database_url=ledger_url)
    pipeline: regrow.Regrow = regrow.connect(app, settings)
    return pipeline.act().sent


def describe(failure: regrow.Failure, verdict: regrow.Verdict, decision: regrow.Decision) -> str:
    """A user's text about a failure."""
    category: regrow.Category = verdict.category
    return f"{failure.task_name} {category.key} {category.retry} {decision.reason.value} {decision.due_at}"


def refuse(error: regrow.RegrowError) -> str:
    """Every error of ours is a RegrowError."""
    return str(error)
