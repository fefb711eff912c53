"""What monitoring systems are told of a failed run."""

from __future__ import annotations

import json

from regrow.model import Audience, Decision, Failure, Message, Verdict


def event(failure: Failure, verdict: Verdict, decision: Decision, attempt: int) -> Message:
    """A failed run as monitoring systems get it: the body is a JSON object (G27)."""
    outer = failure.causes[0]
    event = {
        "event": "failure",
        "task_id": failure.task_id,
        "task_name": failure.task_name,
        "task_type": failure.task_type,
        "category": verdict.category.key,
        "confidence": verdict.confidence,
        "rule": verdict.rule,
        "action": decision.action,
        "reason": decision.reason,
        "retry_delay": decision.delay_seconds,
        "attempt": attempt,
        "fingerprint": failure.fingerprint,
        "error_type": outer.type,
        "error_message": outer.message,
        "worker": failure.worker,
        "queue": failure.queue,
        "user_id": failure.user_id,
        "failed_at": failure.failed_at.isoformat(),
    }
    return Message(
        key=f"{failure.task_id}:{attempt}:event",
        audience=Audience.MACHINE,
        category=verdict.category.key,
        priority="normal",
        title="failure",
        body=json.dumps(event, ensure_ascii=False),
        task_id=failure.task_id,
        task_name=failure.task_name,
        user_id=failure.user_id,
        group=failure.fingerprint,
    )
