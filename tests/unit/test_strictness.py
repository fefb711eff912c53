"""A loose word never starts a retry, and what libraries really say about outages does.

The sentences are general ones: own inventions for the innocent, and for the real ones what the named libraries,
services and C libraries print. None is taken from a labelled corpus.
"""

from __future__ import annotations

import pytest

from regrow.adapters.rules import load_rulebook
from regrow.capture import causes_from_text
from regrow.classify import Rulebook, classify

INNOCENT = """
the connection between the two tables is missing
timeout must be a positive integer
invalid value for retry_timeout
memory card reader not supported
network name already exists
disk type is invalid
rate must not exceed 5 %
Please try again later
please retry
Try again in a moment
Something went wrong, please try again later.
An error occurred. Please retry your request.
System error
Internal error
An internal error occurred
busy
timeout parameter is required
read_timeout should be greater than 0
The field connect_timeout is required
unknown option: max_retries
rate_limit is not a valid integer
The rate limit field cannot be negative
retry_after must be a number
limit must be between 1 and 100 requests per second
daily limit must be a positive number
The throttle rate "5/x" is invalid
Server name must not be empty
host is a required field
proxy settings page opened
DNS record type is not valid
network interface type unsupported
socket type must be one of A, B, C
The memory size of the product is not available
Disk format not supported
Lock screen image is missing
deadlock_timeout must be an integer
maintenance window format is invalid
This product is currently unavailable
The item is temporarily not available
Video currently unavailable
Flight is at full capacity
Truck capacity exceeded
This article is in high demand
E-mail address already in use
No free slots available on Monday
readonly field cannot be changed
column id is not primary key
user is not the leader of this team
The channel is closed
the voting session is closed
Wallet not connected
Unable to contact the customer
Failed to reach the minimum order amount
could not resolve merge conflict
failed to fetch user profile: invalid id
unreachable code after return
host lookup table is empty
the task title exceeds the character limit
The command name has died out
payment was not made within the allowed time
customer did not respond
submission deadline exceeded by the student
Object serialization error: unsupported type
optimistic locking is not supported
failover group name is invalid
overloaded function not found
no response from customer
the pool is closed on Sundays
slowdown factor is negative
Your session timed out, please log in again
Operation cancelled by user: slow down speed is too low
could not get connection string
an operation on the worker table: worker failed to validate
Time out of range
retry limit has to be an integer
连接字符串格式错误
请求参数 timeout 无效
请稍后重试
稍后再试
超时时间必须大于0
重试次数不能超过5次
限流参数无效
订单超时未支付
支付金额错误
接口参数错误
数据库字段类型错误
查询结果过多
相册空间不足
暂时无法购买该商品
车辆维护中
网络名称已存在
内存卡型号不支持
缓存键格式不正确
JSON序列化失败
磁盘类型无效
每天次数必须大于0
读取用户信息失败：权限不足
队列名称不能为空
服务器名称不能为空
主机名格式错误
无法解析该字段
代理商不存在
地址错误
死锁检测开关参数错误
连接数上限不能小于1
限流规则配置错误
任务超时时间配置错误
频率单位不正确
系统错误
出错了，请重试
""".strip().splitlines()

RECOVERABLE = """
ConnectionRefusedError: [Errno 111] Connection refused
[Errno 104] Connection reset by peer
[Errno 110] Connection timed out
[Errno 113] No route to host
[Errno 101] Network is unreachable
[Errno 32] Broken pipe
[Errno -3] Temporary failure in name resolution
[Errno -2] Name or service not known
[Errno 8] nodename nor servname provided, or not known
[WinError 10061] No connection could be made because the target machine actively refused it
[WinError 10060] A connection attempt failed because the connected party did not properly respond after a period of time
Remote end closed connection without response
('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))
HTTPSConnectionPool(host='api.example.org', port=443): Read timed out. (read timeout=10)
HTTPSConnectionPool(host='x.example', port=443): Max retries exceeded with url: / (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused'))
Cannot connect to host api.example.org:443 ssl:default [Connect call failed ('10.1.1.1', 443)]
peer closed connection without sending complete message body (incomplete chunked read)
Server disconnected without sending a response.
EOF occurred in violation of protocol (_ssl.c:2427)
curl: (28) Operation timed out after 30001 milliseconds with 0 bytes received
curl: (6) Could not resolve host: api.example.org
curl: (56) Recv failure: Connection reset by peer
dial tcp 10.0.0.1:80: i/o timeout
dial tcp: lookup api.example.org: no such host
context deadline exceeded
net/http: TLS handshake timeout
socket hang up
getaddrinfo ENOTFOUND api.example.org
connect ETIMEDOUT 93.184.216.34:443
net::ERR_CONNECTION_RESET at https://example.org
Timeout 30000ms exceeded.
upstream connect error or disconnect/reset before headers. reset reason: overflow
503 Service Unavailable
502 Bad Gateway
504 Gateway Time-out
500 Server Error: Internal Server Error for url: https://example.org/
429 Client Error: Too Many Requests for url: https://example.org/
The server is temporarily unable to service your request due to maintenance downtime or capacity problems.
Rate limit exceeded
You are being rate limited.
API rate limit exceeded for user ID 1.
Request was throttled. Expected available in 12 seconds.
An error occurred (ThrottlingException) when calling the PutItem operation (reached max retries: 4): Rate exceeded
An error occurred (SlowDown) when calling the PutObject operation: Please reduce your request rate.
Flood control exceeded. Retry in 20 seconds
The model is currently overloaded with other requests.
FATAL: sorry, too many clients already
FATAL: the database system is starting up
server closed the connection unexpectedly
deadlock detected
Deadlock found when trying to get lock; try restarting transaction
Lock wait timeout exceeded; try restarting transaction
could not serialize access due to concurrent update
canceling statement due to statement timeout
canceling statement due to lock timeout
database is locked
MySQL server has gone away
Lost connection to MySQL server during query
QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00
ORA-00060: deadlock detected while waiting for resource
LOADING Redis is loading the dataset in memory
CLUSTERDOWN The cluster is down
READONLY You can't write against a read only replica.
OOM command not allowed when used memory > 'maxmemory'.
Error 111 connecting to localhost:6379. Connection refused.
NoBrokersAvailable
This server is not the leader for that topic-partition.
No suitable servers found (`serverSelectionTryOnce` set)
Too many heartbeats missed
rpc error: code = Unavailable desc = connection closed
Cannot allocate memory
CUDA out of memory. Tried to allocate 2.00 GiB
java.lang.OutOfMemoryError: Java heap space
Unable to allocate 3.73 GiB for an array with shape (500000000,)
[Errno 28] No space left on device
[Errno 24] Too many open files
can't start new thread
BlockingIOError: [Errno 11] Resource temporarily unavailable
[Errno 13] Permission denied: '/var/data/x'
[Errno 98] Address already in use
Worker exited prematurely: signal 9 (SIGKILL) Job: 3.
TimeLimitExceeded(300,)
Command '['x']' died with <Signals.SIGKILL: 9>.
Maximum execution time of 30 seconds exceeded
(421, b'4.7.0 Temporary System Problem. Try again later')
网络连接超时
连接被拒绝
域名解析失败
没有到主机的路由
数据库连接失败
Redis连接超时
检测到死锁
请求过于频繁，请稍后再试
系统繁忙，请稍后重试
服务暂时不可用
服务器内部错误
接口限流中，请稍后重试
磁盘空间不足
内存不足
设备上没有空间
打开的文件过多
任务执行超时
""".strip().splitlines()


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return load_rulebook()


@pytest.mark.parametrize("sentence", INNOCENT)
def test_an_innocent_sentence_never_starts_a_retry(rulebook: Rulebook, sentence: str) -> None:
    """Words such as timeout, network or busy are no outage by themselves, with and without an exception's name."""
    for text in (
        sentence,
        sentence.capitalize(),
        f"{sentence}.",
        f"ValueError: {sentence}",
        f"app.AppError: {sentence}",
    ):
        verdict = classify(causes_from_text("", text, ""), rulebook)
        assert not verdict.category.retry or verdict.caution, (text, verdict.rule, verdict.matched)


@pytest.mark.parametrize("sentence", RECOVERABLE)
def test_a_real_outage_is_retried(rulebook: Rulebook, sentence: str) -> None:
    """What libraries print when time heals it is recognised, on its own and inside a sentence."""
    for text in (sentence, f"job 7: {sentence}"):
        verdict = classify(causes_from_text("", text, ""), rulebook)
        assert verdict.category.retry, (text, verdict.category.key, verdict.rule, verdict.matched)
