#!/usr/bin/env python3
"""Starts, stops and explains Celery's beat, which sends the scheduled tasks: python celery_beat_manager.py status.

It works from any directory, with the interpreter that runs it; no `celery` on the PATH is needed. Exit codes: 0 done
(status: running), 1 failed, 2 wrong usage, 3 not running (status only, as the Linux Standard Base has it).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import click
except ModuleNotFoundError:
    sys.exit(
        f"{sys.executable} 未安装本系统的依赖，请先执行 make setup，再用 .venv/bin/python 运行\n"
        f"{sys.executable} lacks what this needs: run make setup, then use .venv/bin/python"
    )

if TYPE_CHECKING:
    from regrow.config import Settings

ROOT = Path(__file__).resolve().parent

NOT_RUNNING = 3

#: A busy machine may need long to import an application.
_START_SECONDS = 60.0

#: After SIGKILL only the kernel has something left to do.
_KILL_SECONDS = 5.0

#: How long workers may take to answer.
_PING_SECONDS = 1.5


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("action", type=click.Choice(["start", "stop", "restart", "status"]))
@click.option(
    "--wait", "seconds", default=10.0, show_default=True, type=click.FloatRange(min=0),
    help="停止时等待多少秒后强制结束 / Seconds to wait for beat to stop before it is killed.",
)  # fmt: skip
def main(action: str, seconds: float) -> None:
    """Manage the scheduled tasks (Celery beat). 管理定时任务：启动、停止、重启、查看状态。

    Exit codes: 0 done, or running; 1 failed; 2 wrong usage; 3 not running (status).
    """  # noqa: D415  # Chinese has a full stop of its own
    from regrow.errors import RegrowError

    actions: dict[str, Callable[[], int]] = {
        "start": start,
        "stop": lambda: stop(seconds),
        "restart": lambda: stop(seconds) or start(),
        "status": status,
    }
    try:
        code = actions[action]()
    except (OSError, RegrowError) as error:
        _say(f"失败：{error}", f"failed: {error}", problem=True)
        code = 1
    sys.exit(code)


# -- the four actions --------------------------------------------------------------------------------------------------


def start() -> int:
    """Start beat unless it runs; wait until it does."""
    from app import beat

    settings = _settings()  # a wrong setting is told here, rather than in beat's log
    if (pid := beat.running()) is not None:
        return _runs_already(pid)
    if old := beat.left_behind():
        _say(
            f"发现失效的 pid 文件：上一个 beat（进程 {old}）意外结束",
            f"found a stale pid file: the last beat (process {old}) has not ended in order",
        )
    log = Path(settings.logs_dir).absolute() / "celery_beat.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # The same file twice: --logfile follows log rotation, and what ends beat before it can log is Python's to write.
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "app.tasks.celery_app",
        "beat",
        "-l",
        "INFO",
        "--logfile",
        str(log),
    ]
    with log.open("ab") as out:
        begin = out.tell()
        child = subprocess.Popen(  # noqa: S603  # nothing of it comes from outside
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # no terminal that closes takes it along
        )
    end = time.monotonic() + _START_SECONDS
    while child.poll() is None and time.monotonic() < end:
        if beat.running() == child.pid:
            _say(f"beat 已启动（进程 {child.pid}），日志：{log}", f"beat has started (process {child.pid}), log: {log}")
            return 0
        time.sleep(0.1)
    if (pid := beat.running()) is not None and pid != child.pid:
        return _runs_already(pid)  # it was quicker, and ours has ended
    child.kill()
    with log.open("rb") as written:
        written.seek(begin)
        last = written.read().decode(errors="replace").splitlines()[-15:]
    _say(f"beat 启动失败，日志 {log}：", f"beat did not start, log {log}:", problem=True)
    click.echo("\n".join(f"  {line}" for line in last), err=True)
    return 1


def _is_beat(pid: int) -> bool:
    return any(words in _command(pid) for words in ("app.tasks.celery_app", "celery beat"))


def stop(seconds: float) -> int:
    """Stop beat and wait until it has ended; kill it if that takes longer than `seconds`."""
    from app import beat

    pid = beat.running()
    if pid is None:
        _say("beat 没有运行", "beat is not running")
        return 0
    if not _is_beat(pid):
        # The lock of a shared folder reaches into a container, process ids do not.
        _say(
            f"进程 {pid} 不是 beat：它可能运行在容器里，请在那里停止它",
            f"process {pid} is not beat, which may run in a container: stop it there",
            problem=True,
        )
        return 1
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, _KILL_SECONDS)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        end = time.monotonic() + patience
        # It gives its lock back a moment before it has ended.
        while ((now := beat.running()) == pid or _is_beat(pid)) and time.monotonic() < end:
            time.sleep(0.05)
        if now != pid:
            _say(f"beat 已停止（进程 {pid}）", f"beat has stopped (process {pid})")
            return 0
        if number == signal.SIGTERM:
            _say(f"beat 在 {seconds:g} 秒内没有停止，强制结束", f"beat did not stop within {seconds:g} s; killing it")
    _say(f"无法结束进程 {pid}", f"process {pid} does not end", problem=True)
    return 1


def status() -> int:
    """Say whether beat runs, what it sends and when it last did, and how many workers answer."""
    from app import beat
    from app.tasks.celery_app import celery_app

    settings, pid = _settings(), beat.running()
    if pid is not None:
        since = _local(beat.started_at())
        _say(f"beat 正在运行：进程 {pid}，启动于 {since}", f"beat is running: process {pid}, since {since}")
    elif old := beat.left_behind():
        _say(
            f"beat 没有运行：pid 文件已失效，上一个 beat（进程 {old}）意外结束",
            f"beat is not running: its pid file is stale, the last beat (process {old}) has not ended in order",
        )
    else:
        _say("beat 没有运行", "beat is not running")
    if settings.mode == "observe":
        _say("注意：FAILURE_MODE=observe，只记录，不重试也不通知", "note: FAILURE_MODE=observe only records")
    elif not settings.recovery_enabled:
        _say(
            "注意：自动重试已关闭 (FAILURE_RECOVERY_ENABLED)", "note: FAILURE_RECOVERY_ENABLED has switched retries off"
        )
    _say("\n定时任务：", "\nscheduled tasks:")
    for name, entry in celery_app.conf.beat_schedule.items():
        sent = beat.sent_at(name)
        last, queue = _local(sent) if sent else "", entry["options"]["queue"]
        zh, en = _interval(entry["options"]["expires"])
        click.echo(f"  {name}\n    {beat.DESCRIPTIONS[name][settings.language]}")
        _say(
            f"    {entry['task']}，队列 {queue}，每 {zh}，上次发送：{last or '尚未发送'}",
            f"    {entry['task']}, queue {queue}, every {en}, last sent: {last or 'not yet'}",
        )
    _workers()
    return 0 if pid is not None else NOT_RUNNING


# -- what they need ----------------------------------------------------------------------------------------------------


def _workers() -> None:
    """Say how many workers answer."""
    from app.tasks.celery_app import celery_app

    try:
        names = sorted({name for answer in celery_app.control.ping(timeout=_PING_SECONDS) for name in answer})
    except Exception as error:  # noqa: BLE001  # whatever the broker's driver raises
        _say(f"\n无法询问工作进程：{error}", f"\nworkers cannot be asked: {error}")
        return
    if names:
        _say(
            f"\n工作进程：{len(names)} 个应答（{'，'.join(names)}）",
            f"\nworkers that answer: {len(names)} ({', '.join(names)})",
        )
    else:
        command = "celery -A app.tasks.celery_app worker"
        _say(
            f"\n没有工作进程应答，任务无人执行；启动：{command}",
            f"\nno worker answers, so no task runs; start one: {command}",
        )


def _interval(seconds: int) -> tuple[str, str]:
    """An interval in Chinese and in English."""
    if seconds % 3600:
        return f"{seconds // 60} 分钟", f"{seconds // 60} min"
    return f"{seconds // 3600} 小时", f"{seconds // 3600} h"


def _runs_already(pid: int) -> int:
    _say(f"beat 已在运行（进程 {pid}），无需再次启动", f"beat is running already (process {pid}); nothing to do")
    return 0


def _command(pid: int) -> str:
    """The command line of a process, '' if there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ")
    # macOS has no /proc, and a small container no ps.
    found = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return found.stdout


@cache
def _settings() -> Settings:
    from regrow.wiring import load_settings

    return load_settings()


def _local(when: datetime) -> str:
    from zoneinfo import ZoneInfo

    zone = _settings().timezone
    return when.astimezone(ZoneInfo(zone) if zone else None).isoformat(" ", "seconds")


def _say(chinese: str, english: str, *, problem: bool = False) -> None:
    from regrow.errors import SettingsError

    try:
        language = _settings().language
    except SettingsError:  # stopping works all the same
        language = "zh"
    click.echo(chinese if language == "zh" else english, err=problem)


if __name__ == "__main__":
    # Settings, data and logs are named relative to it, and read as soon as `app` is imported.
    os.chdir(ROOT)
    main()
