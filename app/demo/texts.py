"""The demo's own texts in Chinese. What Regrow itself says comes from Regrow's catalogue."""

from __future__ import annotations

import os

from regrow.ports import Words

_CHINESE = {
    # progress
    "Regrow demo: {n} tasks, services with a bad day, and a worker that is killed": (
        "Regrow 演示：{n} 个任务，几个状况不佳的服务，以及一个中途被杀死的 worker"
    ),
    "the former {folder} is now {former}": "原来的 {folder} 已移到 {former}",
    "starting the services and a Celery worker with its dispatcher in {folder}": (
        "正在 {folder} 中启动各服务、Celery worker 及其调度进程"
    ),
    "the worker is ready; sending {n} tasks, and waiting with .get() for a task, a chain and a chord": (
        "worker 已就绪；发送 {n} 个任务，并用 .get() 等待一个任务、一个 chain 和一个 chord"
    ),
    "an administrator makes {folder} writable again": "管理员恢复了 {folder} 的写权限",
    "sending {n} more tasks: the first two will not get an answer": "再发送 {n} 个任务：前两个得不到回应",
    "kill -9: the worker has died with {running} tasks running and {taken} more in its hands; {queued} wait in the "
    "broker": "kill -9：worker 已死，当时 {running} 个任务正在运行，另有 {taken} 个已领取；{queued} 个还在消息队列中",
    "a new worker of the same name is ready; it goes on with what waits in the broker": (
        "同名的新 worker 已就绪，继续处理消息队列中的任务"
    ),
    "another program notes a failed task in the table; scan_and_process_failed_tasks is sent twice": (
        "另一个程序在任务表中记下一个失败任务；同时发送两次 scan_and_process_failed_tasks"
    ),
    "the scans have taken in {n} failures that no worker could report": "扫描收录了 {n} 个没有 worker 能上报的失败",
    "the sold-out goods are back in stock; sending manual_recovery_task(task_id={n})": (
        "缺货商品已补货；发送 manual_recovery_task(task_id={n})"
    ),
    "all has come to rest; sending scan_and_process_failed_tasks and analyze_failure_patterns": (
        "全部处理完毕；发送 scan_and_process_failed_tasks 和 analyze_failure_patterns"
    ),
    "stopping the worker": "正在停止 worker",
    "{why}; again in {n} s": "{why}；{n} 秒后重试",
    "no retries left, administrator told": "重试已用完，已通知管理员",
    "{why}; administrator told": "{why}；已通知管理员",
    "{why}; user told": "{why}；已通知用户",
    "its work may be done already: held, administrator told": "可能已经执行：等待人工处理，已通知管理员",
    "recovered: run {n} has succeeded": "已恢复：第 {n} 次运行成功",
    "{part}: .get() has returned {what}": "{part}：.get() 返回 {what}",
    "{part}: .get() has raised {what}": "{part}：.get() 抛出 {what}",
    "task": "任务",
    "not over after {n} s": "{n} 秒后仍未结束",
    "interrupted": "已中断",
    # summary
    "{title}:": "{title}：",
    "Task": "任务",
    "What failed": "失败情况",
    "Category": "分类",
    "What was done": "处理",
    "End": "结果",
    ", ": "，",
    "{n} retries": "重试 {n} 次",
    "1 retry": "重试 1 次",
    "1 retry by hand": "人工重试 1 次",
    "user told": "已通知用户",
    "administrator told": "已通知管理员",
    "customer service told": "已通知客服",
    "finance told": "已通知财务",
    "recovered": "已恢复",
    "exhausted": "重试用完",
    "handed over": "已转交",
    "held": "等待人工",
    "network": "网络",
    "temporary": "临时",
    "system": "系统",
    "data": "数据",
    "config": "配置",
    "business": "业务",
    "unknown": "未知",
    "{n} more tasks succeeded at once": "另有 {n} 个任务一次成功",
    "Ledger": "台账",
    "Targets": "指标",
    "met": "达标",
    "missed": "未达标",
    # checks
    "ok": "通过",
    "FAILED": "失败",
    "every task has come to an end in time": "所有任务都按时结束",
    "the waiting .get() has returned the right value": "等待中的 .get() 返回了正确的值",
    "the chain has returned the right value, its tail ran once": "chain 返回了正确的值，尾任务只运行了一次",
    "the chord has returned the right value, its body ran once": "chord 返回了正确的值，回调只运行了一次",
    "every failure has the right category, and each category has failures": "每次失败的分类都正确，且每个分类都有失败",
    "every task has ended as it should": "每个任务的结局都符合预期",
    "Celery and the table of tasks say of every task what the ledger says": (
        "每个任务在 Celery 和任务表中的状态都与台账一致"
    ),
    "the services have seen one request for each run in the ledger": "各服务收到的请求数与台账中的运行次数一致",
    "the courier's Retry-After was respected, by its own clock": "按快递服务自己的时钟，Retry-After 得到遵守",
    "the task whose retries were used up ended with its own exception and one errback": (
        "重试用完的任务以它自己的异常结束，errback 恰好触发一次"
    ),
    "the receipts are PDF files, the screenshots PNG files": "收据都是 PDF 文件，截图都是 PNG 文件",
    "the worker died of SIGKILL with tasks running, taken and queued": (
        "worker 被 SIGKILL 杀死时，有任务正在运行、已领取和排队"
    ),
    "the chain that was cut off has returned the right value, its tail ran once": (
        "被中断的 chain 返回了正确的值，尾任务只运行了一次"
    ),
    "two scans at once have taken in what was lost, each once, and nothing else": (
        "两次同时扫描收录了全部丢失的任务，各一次，且没有其他任务"
    ),
    "the payment that was cut off was made once, and is held for a person": "被中断的付款只执行了一次，正等待人工处理",
    "no order, payment, notice or invoice was made twice, by the services' books": (
        "按各服务的账目，没有重复的订单、付款、通知或账单"
    ),
    "manual_recovery_task has recovered the order": "manual_recovery_task 恢复了订单",
    "one message for each task that needs a person, in the right log and inbox": (
        "每个需要人工处理的任务恰有一条通知，日志和站内信均正确"
    ),
    "customer service knows of the order failure, finance of the payment failure": (
        "客服已获知订单失败，财务已获知付款失败"
    ),
    "the processing reports tell of every failure": "处理报告涵盖了每一个失败",
    "the analysis report counts what the ledger counts": "分析报告的统计与台账一致",
    "nothing is left waiting, running, parked or untold": "没有遗留等待、运行、挂起或未通知的任务",
    "the ledger equation holds": "台账等式成立",
    "the ledger has captured exactly the tasks that failed or were lost": "台账恰好记录了所有失败和丢失的任务",
    "`regrow status --json` says the same": "`regrow status --json` 的结果相同",
    # end
    "Reports and logs": "报告和日志",
    "Look further": "进一步查看",
    "All {n} checks hold. {seconds} s.": "全部 {n} 项检查通过，用时 {seconds} 秒。",
    "{failed} of {n} checks FAILED. {seconds} s. The worker's log: {log}": (
        "{n} 项检查中有 {failed} 项失败，用时 {seconds} 秒。worker 的日志：{log}"
    ),
    # make up
    "Worker, beat and the services are starting. Ctrl-C ends them.": "正在启动 worker、beat 和各服务。按 Ctrl-C 停止。",
    "Worker and the services are starting; beat (process {pid}) is running already. Ctrl-C ends them.": (
        "正在启动 worker 和各服务；beat（进程 {pid}）已在运行。按 Ctrl-C 停止。"
    ),
    "Their logs: {files}": "日志：{files}",
    "From another terminal:": "在另一个终端中：",
    "Stopped.": "已停止。",
}


def reader_language() -> str:
    """The language of who sits at the terminal: as for all messages if somebody has set one, else the terminal's."""
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    asked = os.environ.get("FAILURE_LANGUAGE") or locale
    return "zh" if asked.startswith("zh") else "en"


def texts(language: str) -> Words:
    """The demo's words in a language; a text that has no translation stays English."""
    table = _CHINESE if language == "zh" else {}

    def words(text: str, /) -> str:
        return table.get(text, text)

    return words
