"""Messages as lines of a log file, one line each (G5, G6)."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from regrow.errors import DeliveryError
from regrow.model import Message
from regrow.ports import Clock


class LogFile:
    """Appends each message to a file as one line: time, priority, category, task, title, body.

    Args:
        path: The file; its folder is made if it is missing. Opened anew for each message, so log rotation just works.
        clock: Tells the time of delivery.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def send(self, message: Message) -> None:
        """Append one line.

        Raises:
            DeliveryError: The file cannot be written.
        """
        line = self._line(message, self._clock()).encode(errors="replace")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                written = os.write(handle, line)  # one write: lines of several processes never mix
            finally:
                os.close(handle)
        except OSError as error:
            raise DeliveryError(f"cannot write {self._path}: {error.strerror or error}") from error
        if written < len(line):
            raise DeliveryError(f"cannot write {self._path}: only part of the line fitted; is the disk full?")

    def _line(self, message: Message, now: datetime) -> str:
        fields = {
            "priority": message.priority,
            "category": message.category,
            "task": message.task_name,
            "task_id": message.task_id,
            "user": message.user_id,
            "title": message.title,
            "body": message.body,
        }
        # JSON strings escape line breaks and control characters, so no message can forge a second line.
        text = " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in fields.items() if value)
        visible = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
        return f"{now.astimezone().isoformat(timespec='seconds')} {visible}\n"
