"""The demo's own texts in Chinese. What Regrow itself says comes from Regrow's catalogue."""

from __future__ import annotations

from regrow.ports import Words

_CHINESE = {
    # tasks
    "track": "查询包裹",
    "announce": "通知客户",
    "price": "查询运费",
    "invoice": "开账单",
    "label": "打印面单",
    "pickup": "预约取件",
    "statement": "对账单",
    # progress
    "Regrow demo: {n} tasks ask a courier's HTTP service that has a bad day": (
        "Regrow 演示：{n} 个任务请求一个状况不佳的快递 HTTP 服务"
    ),
    "starting a ledger, a courier, a Celery worker and a dispatcher in {folder}": (
        "正在 {folder} 中启动账本、快递服务、Celery worker 和调度器"
    ),
    "the worker is ready; sending {n} tasks, and waiting with .get() for one task, a chain and a chord": (
        "worker 已就绪；发送 {n} 个任务，并用 .get() 等待一个普通任务、一个 chain 和一个 chord"
    ),
    "{why}; again in {n} s": "{why}；{n} 秒后重试",
    "{why}; no retries left, administrator told": "{why}；重试已用完，已通知管理员",
    "{why}; administrator told": "{why}；已通知管理员",
    "{why}; user told": "{why}；已通知用户",
    "{why}; held for a person": "{why}；等待人工处理",
    "recovered: run {n} has succeeded": "已恢复：第 {n} 次运行成功",
    "{part}: .get() has returned {what}": "{part}：.get() 返回 {what}",
    "{part}: .get() has raised {what}": "{part}：.get() 抛出 {what}",
    "stopping worker and dispatcher": "正在停止 worker 和调度器",
    "not over after {n} s": "{n} 秒后仍未结束",
    "interrupted": "已中断",
    # summary
    "Task": "任务",
    "What failed": "失败情况",
    "Category": "分类",
    "Done": "处理",
    "End": "结果",
    "nothing": "无",
    "{n} retries": "重试 {n} 次",
    "1 retry": "重试 1 次",
    "succeeded": "成功",
    "recovered": "已恢复",
    "exhausted": "重试用完",
    "handed over": "已转交",
    "told": "已通知",
    "task": "任务",
    "network": "网络",
    "temporary": "临时",
    "system": "系统",
    "data": "数据",
    "config": "配置",
    "business": "业务",
    "unknown": "未知",
    # checks
    "ok": "通过",
    "FAILED": "失败",
    "every task has come to an end in time": "所有任务都按时结束",
    "the waiting .get() has returned the right value": "等待中的 .get() 返回了正确的值",
    "the chain has returned the right value": "chain 返回了正确的值",
    "the chain's tail has run once, with the right value": "chain 的尾任务只运行了一次，且值正确",
    "the chord has returned the right value": "chord 返回了正确的值",
    "the chord's body has run once, with the right value": "chord 的回调只运行了一次，且值正确",
    "every failure has the right category": "每次失败的分类都正确",
    "every task has ended as it should": "每个任务的结局都符合预期",
    "Celery says of every task what the ledger says": "每个任务在 Celery 中的状态与账本一致",
    "the courier has seen one request for each run in the ledger": "快递服务收到的请求数与账本中的运行次数一致",
    "the courier's Retry-After was respected, by its own clock": "按快递服务自己的时钟，Retry-After 得到遵守",
    "the label whose answer was lost was printed once, not twice": "回应丢失的面单只打印了一次",
    "the task whose retries were used up ended with its own exception": "重试用完的任务以它自己的异常结束",
    "its errback has fired exactly once, and no other": "它的 errback 恰好触发一次，其他任务没有触发",
    "one message for each task that needs a person, and no other": "每个需要人工处理的任务恰有一条通知",
    "nothing is left waiting, running, parked or untold": "没有遗留等待、运行、停泊或未通知的任务",
    "the ledger equation holds": "账本等式成立",
    "the ledger has captured exactly the tasks that failed by the courier's count": (
        "账本记录的失败任务与快递服务的统计完全一致"
    ),
    "`regrow status --json` says the same": "`regrow status --json` 的结果相同",
    # end
    "Ledger": "账本",
    "Look further": "进一步查看",
    "All {n} checks hold. {seconds} s.": "全部 {n} 项检查通过，用时 {seconds} 秒。",
    "{failed} of {n} checks FAILED. {seconds} s. Logs: {folder}": (
        "{n} 项检查中有 {failed} 项失败，用时 {seconds} 秒。日志：{folder}"
    ),
}


def texts(language: str) -> Words:
    """The demo's words in a language; a text that has no translation stays English."""
    table = _CHINESE if language == "zh" else {}

    def words(text: str, /) -> str:
        return table.get(text, text)

    return words
