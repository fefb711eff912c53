"""The Celery application of the reference application: `celery -A app.tasks.celery_app ...`.

It needs no service: messages are files, results lie in SQLite. Both stand under APP_VAR (default: `var`), unless
CELERY_BROKER_URL and CELERY_RESULT_BACKEND name something else. Regrow's own settings: see `regrow.config`.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

import regrow
from app import broker

#: Everything that a run leaves behind.
VAR = Path(os.environ.get("APP_VAR") or "var").absolute()

celery_app = Celery("app", include=["app.tasks.parcels"])
celery_app.conf.update(
    broker_url=os.environ.get("CELERY_BROKER_URL") or f"{broker.SCHEME}://localhost",
    result_backend=os.environ.get("CELERY_RESULT_BACKEND") or f"db+sqlite:///{VAR / 'results.db'}",
    broker_connection_retry_on_startup=True,
)
if celery_app.conf.broker_url.startswith(f"{broker.SCHEME}:"):
    messages, control = VAR / "broker", VAR / "broker" / "control"
    control.mkdir(parents=True, exist_ok=True)
    celery_app.conf.broker_transport_options = {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        # kombu's default is a second, which each link of a chain would pay.
        "polling_interval": 0.1,
    }

regrow.install(celery_app)
