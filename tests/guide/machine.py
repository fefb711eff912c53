"""A fresh machine: a project's root of a test's own, in which a person follows the guide as it is printed."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from app.courier import Courier, Parcel, Trouble
from app.shop import Order, Shop
from regrow import wiring
from regrow.config import Settings
from regrow.model import Record, State
from regrow.ports import Ledger
from tests.celery_worker import PATIENCE_SECONDS, ROOT, Process, until
from tests.guide.printed import text_of

HERE = Path(__file__).parent

#: What a developer's own environment may hold, and a fresh machine does not.
_OURS = (
    *("FAILURE_", "APP_", "CELERY_", "COURIER_", "SHOP_", "REGROW", "RECEIPTS_", "SCREENSHOT", "PROMETHEUS_"),
    *("ELASTIC", "SMTP_", "SMS_", "DINGTALK_", "PYTEST_", "PYTHON"),
)

ORDERS = {
    "A-1": Order("张三", [{"name": "蓝牙耳机", "price": "129.00", "count": 2}]),
    "A-2": Order("李四", [{"name": "限量键盘", "price": "899.00", "count": 1}]),
    "A-3": Order("王五", [{"name": "数据线", "price": "19.90", "count": 3}], card_declined=True),
}


class Machine:
    """The root, what runs in it, and the courier outside.

    Args:
        root: The folder.
        settings: Variables of `.env` beside the guide's own.
    """

    def __init__(self, root: Path, **settings: object) -> None:
        self.root = root
        self.processes: list[Process] = []
        self._numbers = count(1)
        #: What `.env` holds beside the guide's lines.
        self.own_settings: dict[str, object] = {self._variable(name): value for name, value in settings.items()}
        self._parcels: dict[str, Parcel] = {}
        #: What goes wrong at the courier's, by path; a test changes it while everything runs.
        self.troubles: dict[str, Trouble] = {}
        self.courier = Courier(self._parcels, self.troubles, key="fresh", shop=Shop(ORDERS, {"限量键盘": 0}))
        self.own_settings["COURIER_URL"] = self.courier.url
        # Copied, because the beat manager goes where it lies, and Python writes beside what it runs.
        shutil.copytree(ROOT / "app", root / "app", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("celery_beat_manager.py", "regrow.toml"):
            shutil.copy(ROOT / name, root)
        shutil.copy(HERE / "reader_tasks.py", root)
        blocks = {"task": text_of("最佳实践/2. 任务重试设计"), "category": text_of("扩展开发/1. 添加新的错误类型")}
        (root / "reader_blocks.json").write_text(json.dumps(blocks))
        self.settle()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            "C_FORCE_ROOT": "1",
            "NO_PROXY": "*",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "200",
        }

    # -- settings ---------------------------------------------------------------------------------------------------

    def settle(self, printed: str = text_of("配置选项/环境变量"), **changes: object) -> None:
        """Write `.env`: what the guide prints, with changes; running processes follow.

        Args:
            printed: The guide's lines.
            changes: Variables, with or without the prefix FAILURE_ ; they win.
        """
        lines = {line.partition("=")[0]: line for line in printed.splitlines()}
        mine = {self._variable(name): value for name, value in changes.items()}
        for name, value in {**self.own_settings, **mine}.items():
            lines[name] = f"{name}={value}"
        self._write("\n".join(lines.values()) + "\n")

    def _write(self, dotenv: str) -> None:
        part = self.root / ".env.part"  # whoever reads it meanwhile must not see half of it
        part.write_text(dotenv)
        # What was changed this very moment need not count yet; what was changed some time ago must, at the first look.
        moment = wiring.clock().timestamp() - 5
        os.utime(part, (moment, moment))
        part.replace(self.root / ".env")

    @staticmethod
    def _variable(name: str) -> str:
        return name if name.isupper() else f"FAILURE_{name.upper()}"

    @contextmanager
    def settled(self, **changes: object) -> Iterator[None]:
        """Other settings for a while."""
        before = (self.root / ".env").read_text()
        self.settle(**changes)
        try:
            yield
        finally:
            self._write(before)

    # -- what a person types ----------------------------------------------------------------------------------------

    def bash(self, line: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one line of a bash block to its end."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done

    def watch(self, line: str, *words: str, meanwhile: Callable[[], object] = lambda: None) -> str:
        """Run one line that never ends (`tail -f`) on a terminal until it has shown all these words.

        Args:
            line: The line.
            words: What it must show.
            meanwhile: What is done once it runs.
        """
        ours, theirs = pty.openpty()
        popen = subprocess.Popen(
            ["bash", "-c", line], cwd=self.root, env=self.environment,
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            meanwhile()

            def look() -> bool:
                nonlocal shown
                if select.select([ours], [], [], 0)[0]:
                    with suppress(OSError):  # everybody at the other end has gone
                        shown += os.read(ours, 65536)
                return all(word in shown.decode(errors="replace") for word in words)

            until(look, f"{words} from: {line}")
            assert popen.poll() is None, shown.decode(errors="replace")
        finally:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()
            os.close(ours)
        return shown.decode(errors="replace").replace("\r\n", "\n")

    @cached_property
    def _console(self) -> Console:
        return Console(self)

    def python(self, code: str, **names: object) -> Any:
        """Run code at a Python prompt that stays open, and keeps its names; what it calls `answer` comes back.

        Args:
            code: The code.
            names: Values that it finds, as JSON carries them.
        """
        return self.typed(code, **names)[0]

    def typed(self, code: str, **names: object) -> tuple[Any, str]:
        """The same, with what it has printed."""
        return self._console.run(code, **names)

    @contextmanager
    def prompt(self) -> Iterator[Console]:
        """A Python prompt of its own, for what would change the first one."""
        console = Console(self)
        try:
            yield console
        finally:
            console.close()

    # -- what runs --------------------------------------------------------------------------------------------------

    def start(self, *command: str) -> Process:
        """Start a command."""
        log = self.root / f"process-{len(self.processes)}.out"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                command, cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        process = Process(popen, log)
        self.processes.append(process)
        return process

    def upgrade(self) -> None:
        """Set up the ledger, as `regrow db upgrade` does, where no worker does it."""
        self.python("from app.tasks.celery_app import settings; from regrow import wiring; wiring.upgrade(settings)")

    def worker(self, app: str = "app.tasks.celery_app", *, include: str = "reader_tasks") -> Process:
        """Start a worker and wait until it takes tasks."""
        process = self.start("celery", "-A", app, "worker", "-l", "INFO", "-c", "3", "-n", "guide@test", "-I", include)
        until(lambda: process.said(" ready.") or process.popen.poll() is not None, "a worker")
        assert process.popen.poll() is None, process.text()
        return process

    def close(self) -> None:
        """End everything."""
        with suppress(OSError, subprocess.TimeoutExpired):
            self.bash("python celery_beat_manager.py stop", check=False)
        for process in reversed(self.processes):
            process.kill_tree()
        if "_console" in vars(self):
            self._console.close()

    # -- what tasks do ----------------------------------------------------------------------------------------------

    def parcel(self) -> str:
        """The number of a parcel that nobody else asks about."""
        number = f"SF{next(self._numbers):010}"
        self._parcels[number] = Parcel("运输中", 990)
        return number

    def send(self, task: str, *args: object, **options: object) -> str:
        """Send a task as a program of the application does; return its id."""
        code = """
import reader_tasks
from app.tasks.celery_app import celery_app
celery_app.loader.import_default_modules()
(task,) = [one for name, one in celery_app.tasks.items() if name.endswith("." + task)]
answer = task.apply_async(args, **options).id
"""
        return str(self.python(code, task=task, args=args, options=options))

    def result(self, task_id: str) -> Any:
        """What a task returned."""
        code = """
from app.tasks.celery_app import celery_app
answer = celery_app.AsyncResult(task_id).get(timeout=60, interval=0.05)
"""
        return self.python(code, task_id=task_id)

    def mend(self, key: str) -> None:
        """Let a stumbling task succeed from now on."""
        (self.root / f"mended-{key}").touch()

    # -- what is kept -----------------------------------------------------------------------------------------------

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, read as any program may."""
        return wiring.open_ledger(Settings(database_url=f"sqlite:///{self.root}/var/app/regrow.db"))

    def now(self) -> datetime:
        """The moment, as the ledger counts it."""
        return wiring.clock()

    def record(self, task_id: str, *states: State, attempts: int = 1) -> Record:
        """What the ledger says about a task, as soon as it is in one of these states (none: in any)."""

        def look() -> Record | None:
            found = self.ledger.find(task_id)
            good = found is not None and (not states or found.state in states) and found.attempts >= attempts
            return found if good else None

        try:
            found = until(look, f"{task_id} to be {' or '.join(states) or 'known'}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.ledger.find(task_id)}\n{self.log()[-3000:]}") from None
        assert found is not None
        return found

    def rows(self, where: str, *values: object) -> list[dict[str, Any]]:
        """Rows of the table of tasks."""
        with closing(sqlite3.connect(self.root / "var/app/app.db", timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(f"SELECT * FROM task WHERE {where}", values)]

    def row(self, task_id: str) -> dict[str, Any]:
        """The row of a task, by Celery's id."""
        (found,) = self.rows("celery_task_id = ?", task_id)
        return found

    def projected(self, task_id: str, *status: str) -> dict[str, Any]:
        """The row of a task, as soon as it has one of these statuses and shows what the ledger says now."""

        def look() -> dict[str, Any] | None:
            found, record = self.row(task_id), self.ledger.find(task_id)
            return found if found["status"] in status and found["recovery_revision"] == record.revision else None

        return until(look, f"{task_id} to be {' or '.join(status)}")

    def log(self, name: str = "celery") -> str:
        """What stands in a log file."""
        file = self.root / "logs" / f"{name}.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def line(self, name: str, task_id: str) -> str:
        """The one line about a task in a log file, as soon as it is there."""
        found = until(lambda: re.findall(rf"^.*{task_id}.*\n", self.log(name), flags=re.MULTILINE), f"a line in {name}")
        assert len(found) == 1, found
        return str(found[0])

    def reports(self, kind: str) -> list[Path]:
        """Reports of a kind, oldest first."""
        return sorted((self.root / "reports" / kind).glob(f"{kind}_*.json"), key=lambda file: file.stat().st_mtime_ns)


class Console:
    """A Python prompt in the root.

    Args:
        machine: Where.
    """

    def __init__(self, machine: Machine) -> None:
        log = machine.root / f"console-{len(machine.processes)}.err"
        with log.open("wb") as err:
            popen = subprocess.Popen(
                [sys.executable, "-c", (HERE / "console.py").read_text(encoding="utf-8")],
                cwd=machine.root, env=machine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err,
                start_new_session=True,
            )  # fmt: skip
        self._popen = popen
        self.process = Process(popen, log)

    def run(self, code: str, **names: object) -> tuple[Any, str]:
        """Run code; return what it calls `answer`, and what it has printed."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps({"code": code, **names}).encode() + b"\n")
        self._popen.stdin.flush()
        ready = select.select([self._popen.stdout], [], [], 2 * PATIENCE_SECONDS)[0]
        assert ready, f"no answer to\n{code}\n{self.process.text()}"
        said = json.loads(self._popen.stdout.readline() or '{"error": "the prompt has ended"}')
        assert "error" not in said, f"{said['error']}\n{self.process.text()[-3000:]}"
        return said["answer"], said["said"]

    def close(self) -> None:
        """End it."""
        self._popen.communicate()  # closes its input, which ends it


@contextmanager
def machine(root: Path, **settings: object) -> Iterator[Machine]:
    """A machine for the length of a test."""
    made = Machine(root, **settings)
    with made.courier:
        try:
            yield made
        finally:
            made.close()
