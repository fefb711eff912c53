"""Clients of services against local servers that answer as the services do: AWS, OpenAI, Stripe, Kubernetes, Docker,
Elasticsearch, gRPC; and a browser.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from regrow.model import BUSINESS, CONFIG, DATA, NETWORK, SYSTEM, TEMPORARY, UNKNOWN, Category
from tests.provoked import servers
from tests.provoked.servers import closed_port, http, response, serve
from tests.provoked.table import Case, Field, check, shared
from tests.services import require_library

Labels = tuple[Category, ...]

aws = Field("aws")
llm = Field("openai")
payments = Field("stripe")
clusters = Field("kubernetes, docker")
search = Field("elasticsearch")
rpc = Field("grpc")
browser = Field("browser")


def _json(status: int, document: object, **headers: str) -> bytes:
    return response(status, json.dumps(document), "application/json", **headers)


# -- AWS ---------------------------------------------------------------------------------------------------------------


def _aws(service: str, url: str, **options: Any) -> Any:
    config = require_library("botocore.config").Config(
        retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=options.pop("read_timeout", 5)
    )
    usual = {"region_name": "eu-west-1", "aws_access_key_id": "AKIAX", "aws_secret_access_key": "x"}
    return require_library("boto3").client(service, endpoint_url=url, config=config, **{**usual, **options})


def _s3(status: int, code: str, text: str) -> None:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{text}</Message></Error>'
    with http(response(status, body, "application/xml")) as url:
        _aws("s3", url).get_object(Bucket="invoices", Key="2026/11.pdf")


S3: list[tuple[Labels, int, str, str]] = [
    ((CONFIG,), 404, "NoSuchBucket", "The specified bucket does not exist"),
    ((BUSINESS,), 404, "NoSuchKey", "The specified key does not exist."),
    ((CONFIG,), 403, "AccessDenied", "Access Denied"),
    ((CONFIG,), 403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    ((CONFIG,), 403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature"),
    ((CONFIG,), 400, "ExpiredToken", "The provided token has expired."),
    (
        (CONFIG,),
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large",
    ),
    ((TEMPORARY,), 503, "SlowDown", "Please reduce your request rate."),
    ((TEMPORARY,), 503, "ServiceUnavailable", "Please reduce your request rate."),
    ((TEMPORARY,), 500, "InternalError", "We encountered an internal error. Please try again."),
    ((NETWORK, TEMPORARY), 400, "RequestTimeout", "Your socket connection to the server was not read from in time"),
    ((DATA,), 400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size."),
    ((DATA, CONFIG), 400, "InvalidBucketName", "The specified bucket is not valid."),
    ((DATA,), 400, "InvalidArgument", "Invalid Argument"),
    ((DATA,), 416, "InvalidRange", "The requested range is not satisfiable"),
    ((DATA, TEMPORARY), 412, "PreconditionFailed", "At least one of the preconditions you specified did not hold"),
    ((CONFIG, BUSINESS), 403, "InvalidObjectState", "The operation is not valid for the object's storage class"),
]
for _labels, _status, _code, _text in S3:
    aws.add(f"s3-{_code}", _labels, lambda a=(_status, _code, _text): _s3(*a))


def _aws_json(service: str, act: Callable[[Any], object], status: int, code: str, text: str) -> None:
    document = {"__type": f"com.amazonaws#{code}", "message": text, "Message": text}
    with http(_json(status, document, x_amzn_RequestId="1")) as url:
        act(_aws(service, url))


def _dynamodb(client: Any) -> None:
    client.get_item(TableName="orders", Key={"id": {"S": "1"}})


def _secret(client: Any) -> None:
    client.get_secret_value(SecretId="payment")


def _kms(client: Any) -> None:
    client.decrypt(CiphertextBlob=b"x")


AWS_JSON: list[tuple[Labels, str, Callable[[Any], object], int, str, str]] = [
    ((TEMPORARY,), "dynamodb", _dynamodb, 400, "ProvisionedThroughputExceededException", "The level of configured provisioned throughput for the table was exceeded."),
    ((TEMPORARY,), "dynamodb", _dynamodb, 400, "ThrottlingException", "Rate of requests exceeds the allowed throughput."),
    ((TEMPORARY,), "dynamodb", _dynamodb, 400, "RequestLimitExceeded", "Throughput exceeds the current throughput limit for your account."),
    ((TEMPORARY,), "dynamodb", _dynamodb, 500, "InternalServerError", "The request processing has failed because of an unknown error."),
    ((CONFIG,), "dynamodb", _dynamodb, 400, "ResourceNotFoundException", "Requested resource not found: Table: orders not found"),
    ((DATA, BUSINESS), "dynamodb", _dynamodb, 400, "ConditionalCheckFailedException", "The conditional request failed"),
    ((DATA,), "dynamodb", _dynamodb, 400, "ValidationException", "One or more parameter values were invalid: Missing the key id in the item"),
    ((TEMPORARY,), "dynamodb", _dynamodb, 400, "TransactionConflictException", "Transaction is ongoing for the item"),
    ((CONFIG,), "dynamodb", _dynamodb, 400, "UnrecognizedClientException", "The security token included in the request is invalid."),
    ((CONFIG,), "dynamodb", _dynamodb, 400, "AccessDeniedException", "User: arn:aws:iam::1:user/app is not authorized to perform: dynamodb:GetItem"),
    ((CONFIG,), "dynamodb", _dynamodb, 400, "ExpiredTokenException", "The security token included in the request is expired"),
    ((CONFIG,), "secretsmanager", _secret, 400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
    ((CONFIG,), "kms", _kms, 400, "DisabledException", "arn:aws:kms:eu-west-1:1:key/2 is disabled."),
    ((DATA,), "kms", _kms, 400, "InvalidCiphertextException", ""),
]  # fmt: skip
for _labels, _service, _act, _status, _code, _text in AWS_JSON:
    aws.add(f"{_service}-{_code}", _labels, lambda a=(_service, _act, _status, _code, _text): _aws_json(*a))


def _aws_query(service: str, act: Callable[[Any], object], status: int, code: str, text: str) -> None:
    kind = "Receiver" if status >= 500 else "Sender"
    body = f"<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{text}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    if service == "ec2":
        body = f"<Response><Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors><RequestID>1</RequestID></Response>"
    with http(response(status, body, "text/xml")) as url:
        act(_aws(service, url))


def _ses(client: Any) -> None:
    message = {"Subject": {"Data": "x"}, "Body": {"Text": {"Data": "x"}}}
    client.send_email(Source="a@b.example", Destination={"ToAddresses": ["c@d.example"]}, Message=message)


def _ec2(client: Any) -> None:
    client.start_instances(InstanceIds=["i-1"])


def _sts(client: Any) -> None:
    client.get_caller_identity()


def _sns(client: Any) -> None:
    client.publish(TopicArn="arn:aws:sns:eu-west-1:1:gone", Message="x")


AWS_QUERY: list[tuple[Labels, str, Callable[[Any], object], int, str, str]] = [
    ((CONFIG,), "ses", _ses, 400, "MessageRejected", "Email address is not verified. The following identities failed the check: a@b.example"),
    ((TEMPORARY,), "ses", _ses, 454, "Throttling", "Maximum sending rate exceeded."),
    ((TEMPORARY,), "ses", _ses, 400, "Throttling", "Daily message quota exceeded."),
    ((TEMPORARY,), "ec2", _ec2, 500, "InsufficientInstanceCapacity", "We currently do not have sufficient capacity in the Availability Zone you requested."),
    ((BUSINESS, CONFIG), "ec2", _ec2, 400, "InvalidInstanceID.NotFound", "The instance ID 'i-1' does not exist"),
    ((CONFIG,), "ec2", _ec2, 403, "UnauthorizedOperation", "You are not authorized to perform this operation."),
    ((TEMPORARY,), "ec2", _ec2, 503, "RequestLimitExceeded", "Request limit exceeded."),
    ((CONFIG,), "sts", _sts, 403, "InvalidClientTokenId", "The security token included in the request is invalid."),
    ((CONFIG,), "sns", _sns, 404, "NotFound", "Topic does not exist"),
    ((DATA,), "sns", _sns, 400, "InvalidParameter", "Invalid parameter: Message too long"),
]  # fmt: skip
for _labels, _service, _act, _status, _code, _text in AWS_QUERY:
    aws.add(f"{_service}-{_code}-{_status}", _labels, lambda a=(_service, _act, _status, _code, _text): _aws_query(*a))


@aws.case("s3-head-404", BUSINESS)
def _head_404() -> None:
    with http(response(404)) as url:
        _aws("s3", url).head_object(Bucket="invoices", Key="x")


@aws.case("s3-head-403", CONFIG)
def _head_403() -> None:
    with http(response(403)) as url:
        _aws("s3", url).head_object(Bucket="invoices", Key="x")


@aws.case("refused", NETWORK)
def _aws_refused() -> None:
    _aws("s3", f"http://127.0.0.1:{closed_port()}").list_buckets()


@aws.case("dns", NETWORK)
def _aws_dns() -> None:
    _aws("s3", "http://s3.regrow.invalid").list_buckets()


@aws.case("read-timeout", NETWORK)
def _aws_timeout() -> None:
    with serve(servers.silent) as port:
        _aws("s3", f"http://127.0.0.1:{port}", read_timeout=0.1).list_buckets()


@aws.case("closed-at-once", NETWORK)
def _aws_closed() -> None:
    with serve(servers.hang_up) as port:
        _aws("s3", f"http://127.0.0.1:{port}").list_buckets()


@aws.case("answer-that-is-no-xml", TEMPORARY, DATA)
def _aws_no_xml() -> None:
    with http(response(200, "<html>")) as url:
        _aws("s3", url).list_buckets()


@aws.case("parameters", DATA)
def _aws_parameters() -> None:
    _aws("s3", "http://127.0.0.1:1").get_object(Bucket="invoices")


@aws.case("parameter-type", DATA)
def _aws_type() -> None:
    _aws("dynamodb", "http://127.0.0.1:1").get_item(TableName=7, Key={})


@aws.case("bucket-name", DATA, CONFIG)
def _aws_bucket() -> None:
    _aws("s3", "http://127.0.0.1:1").get_object(Bucket="no good name", Key="x")


@aws.case("no-credentials", CONFIG)
def _aws_credentials() -> None:
    session = require_library("botocore.session").Session()
    session.set_config_variable("metadata_service_num_attempts", 0)
    session.register_component("credential_provider", _NoCredentials())
    session.create_client("s3", region_name="eu-west-1", endpoint_url="http://127.0.0.1:1").list_buckets()


class _NoCredentials:
    """A chain of providers that finds nothing."""

    def load_credentials(self) -> None:
        """Nothing."""


@aws.case("no-region", CONFIG)
def _aws_region() -> None:
    session = require_library("botocore.session").Session(profile=None)
    session.set_config_variable("region", None)
    session.create_client("ec2")


@aws.case("no-profile", CONFIG)
def _aws_profile() -> None:
    require_library("boto3").Session(profile_name="no-such-profile")


@aws.case("no-such-service", CONFIG, DATA)
def _aws_service() -> None:
    _aws("no-such-service", "http://127.0.0.1:1")


@aws.case("upload-of-a-missing-file", DATA)
def _aws_upload() -> None:
    _aws("s3", "http://127.0.0.1:1").upload_file("/nonexistent/invoice.pdf", "invoices", "x")


@aws.each()
def test_aws(case: Case) -> None:
    """boto3 over AWS's own error documents."""
    check(case)


# -- OpenAI ------------------------------------------------------------------------------------------------------------


def _openai(url: str, timeout: float = 5) -> None:
    client = require_library("openai").OpenAI(api_key="sk-x", base_url=url + "/v1", max_retries=0, timeout=timeout)
    with client:
        client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": "Hello"}])


def _openai_error(status: int, code: str | None, kind: str, text: str) -> None:
    with http(_json(status, {"error": {"message": text, "type": kind, "param": None, "code": code}})) as url:
        _openai(url)


OPENAI: list[tuple[str, Labels, int, str | None, str, str]] = [
    ("key", (CONFIG,), 401, "invalid_api_key", "invalid_request_error", "Incorrect API key provided: sk-x."),
    ("rate", (TEMPORARY,), 429, "rate_limit_exceeded", "requests", "Rate limit reached for gpt-x on requests per min (RPM): Limit 3. Please try again in 20s."),
    ("tokens", (TEMPORARY,), 429, "rate_limit_exceeded", "tokens", "Rate limit reached for gpt-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 4000."),
    ("quota", (CONFIG,), 429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check your plan and billing details."),
    ("billing", (CONFIG,), 400, "billing_hard_limit_reached", "invalid_request_error", "Billing hard limit has been reached"),
    ("context", (DATA,), 400, "context_length_exceeded", "invalid_request_error", "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
    ("parameter", (DATA,), 400, None, "invalid_request_error", "'temperature' must be between 0 and 2"),
    ("content", (DATA, BUSINESS), 400, "content_policy_violation", "invalid_request_error", "Your request was rejected as a result of our safety system."),
    ("model", (CONFIG,), 404, "model_not_found", "invalid_request_error", "The model `gpt-x` does not exist or you do not have access to it."),
    ("country", (CONFIG, BUSINESS), 403, "unsupported_country_region_territory", "request_forbidden", "Country, region, or territory not supported"),
    ("server", (TEMPORARY,), 500, None, "server_error", "The server had an error while processing your request. Sorry about that!"),
    ("overloaded", (TEMPORARY,), 503, None, "server_error", "That model is currently overloaded with other requests."),
    ("unprocessable", (DATA,), 422, None, "invalid_request_error", "messages: Field required"),
]  # fmt: skip
for _id, _labels, _status, _word, _kind, _text in OPENAI:
    llm.add(_id, _labels, lambda a=(_status, _word, _kind, _text): _openai_error(*a))
llm.add("refused", NETWORK, lambda: _openai(f"http://127.0.0.1:{closed_port()}"))
llm.add("dns", NETWORK, lambda: _openai("http://api.regrow.invalid"))


@llm.case("timeout", NETWORK)
def _openai_timeout() -> None:
    with serve(servers.silent) as port:
        _openai(f"http://127.0.0.1:{port}", 0.2)


@llm.case("no-key", CONFIG)
def _openai_no_key() -> None:
    import os

    before = os.environ.pop("OPENAI_API_KEY", None)
    try:
        require_library("openai").OpenAI()
    finally:
        if before is not None:
            os.environ["OPENAI_API_KEY"] = before


@llm.each()
def test_openai(case: Case) -> None:
    """openai over the service's own error documents."""
    check(case)


# -- Stripe ------------------------------------------------------------------------------------------------------------


def _stripe(url: str, timeout: float = 5) -> None:
    stripe = require_library("stripe")
    client = stripe.StripeClient(
        "sk_test_x",
        base_addresses={"api": url},
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=timeout),
    )
    client.v1.payment_intents.create({"amount": 100, "currency": "eur"})


def _stripe_error(status: int, **error: str) -> None:
    with http(_json(status, {"error": error})) as url:
        _stripe(url)


_CARD = {"type": "card_error"}
_INVALID = {"type": "invalid_request_error"}
STRIPE: list[tuple[str, Labels, int, dict[str, str]]] = [
    ("declined", (BUSINESS,), 402, {**_CARD, "code": "card_declined", "decline_code": "generic_decline", "message": "Your card was declined."}),
    ("funds", (BUSINESS,), 402, {**_CARD, "code": "card_declined", "decline_code": "insufficient_funds", "message": "Your card has insufficient funds."}),
    ("expired", (BUSINESS,), 402, {**_CARD, "code": "expired_card", "message": "Your card has expired."}),
    ("cvc", (BUSINESS,), 402, {**_CARD, "code": "incorrect_cvc", "message": "Your card's security code is incorrect."}),
    ("card-number", (BUSINESS, DATA), 402, {**_CARD, "code": "incorrect_number", "message": "Your card number is incorrect."}),
    ("processing", (TEMPORARY, BUSINESS), 402, {**_CARD, "code": "processing_error", "message": "An error occurred while processing your card. Try again in a little bit."}),
    ("rate", (TEMPORARY,), 429, {**_INVALID, "code": "rate_limit", "message": "Too many requests hit the API too quickly."}),
    ("lock", (TEMPORARY,), 429, {**_INVALID, "code": "lock_timeout", "message": "This object cannot be accessed right now because another API request is accessing it."}),
    ("key", (CONFIG,), 401, {**_INVALID, "message": "Invalid API Key provided: sk_test_x"}),
    ("key-expired", (CONFIG,), 401, {**_INVALID, "code": "api_key_expired", "message": "Expired API Key provided"}),
    ("permission", (CONFIG,), 403, {**_INVALID, "message": "The provided key does not have the required permissions for this endpoint."}),
    ("account", (CONFIG,), 400, {**_INVALID, "code": "account_invalid", "message": "Your account cannot currently make live charges."}),
    ("parameter", (DATA,), 400, {**_INVALID, "code": "parameter_missing", "message": "Missing required param: amount.", "param": "amount"}),
    ("integer", (DATA,), 400, {**_INVALID, "code": "parameter_invalid_integer", "message": "Invalid integer: abc", "param": "amount"}),
    ("small", (DATA, BUSINESS), 400, {**_INVALID, "code": "amount_too_small", "message": "Amount must be at least 50 cents"}),
    ("missing", (BUSINESS,), 404, {**_INVALID, "code": "resource_missing", "message": "No such customer: 'cus_1'", "param": "customer"}),
    ("state", (BUSINESS,), 400, {**_INVALID, "code": "charge_already_refunded", "message": "Charge ch_1 has already been refunded."}),
    ("idempotency", (DATA,), 400, {"type": "idempotency_error", "message": "Keys for idempotent requests can only be used with the same parameters they were first used with."}),
    ("server", (TEMPORARY,), 500, {"type": "api_error", "message": "An unknown error occurred"}),
]  # fmt: skip
for _id, _labels, _status, _error in STRIPE:
    payments.add(_id, _labels, lambda s=_status, e=_error: _stripe_error(s, **e))
payments.add("refused", NETWORK, lambda: _stripe(f"http://127.0.0.1:{closed_port()}"))
payments.add("dns", NETWORK, lambda: _stripe("http://api.regrow.invalid"))


@payments.case("timeout", NETWORK)
def _stripe_timeout() -> None:
    with serve(servers.silent) as port:
        _stripe(f"http://127.0.0.1:{port}", 0.2)


@payments.case("no-json", TEMPORARY)
def _stripe_no_json() -> None:
    with http(response(502, "<html>Bad Gateway</html>", "text/html")) as url:
        _stripe(url)


@payments.case("no-key", CONFIG)
def _stripe_no_key() -> None:
    require_library("stripe").Customer.list()


@payments.case("webhook-signature", CONFIG, DATA)
def _stripe_signature() -> None:
    stripe = require_library("stripe")
    stripe.Webhook.construct_event("{}", f"t={int(time.time())},v1=00", "whsec_x")


@payments.each()
def test_stripe(case: Case) -> None:
    """stripe over the service's own error documents."""
    check(case)


# -- Kubernetes and Docker ---------------------------------------------------------------------------------------------


def _kubernetes(url: str) -> None:
    client = require_library("kubernetes.client")
    configuration = client.Configuration(host=url)
    configuration.retries = False
    with client.ApiClient(configuration) as api:
        client.CoreV1Api(api).read_namespaced_pod("shop", "default", _request_timeout=5)


def _kubernetes_error(status: int, reason: str, text: str) -> None:
    document = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": text,
        "reason": reason,
        "code": status,
    }
    with http(_json(status, document)) as url:
        _kubernetes(url)


for _labels, _status, _reason, _text in (
    ((CONFIG,), 401, "Unauthorized", "Unauthorized"),
    ((CONFIG,), 403, "Forbidden", 'pods "shop" is forbidden: User "app" cannot get resource "pods"'),
    ((BUSINESS, CONFIG), 404, "NotFound", 'pods "shop" not found'),
    ((CONFIG, TEMPORARY), 409, "Conflict", "Operation cannot be fulfilled on pods: the object has been modified; please apply your changes to the latest version and try again"),
    ((CONFIG, BUSINESS), 409, "AlreadyExists", 'jobs.batch "import" already exists'),
    ((DATA,), 422, "Invalid", 'Pod "shop" is invalid: spec.containers[0].image: Required value'),
    ((TEMPORARY,), 429, "TooManyRequests", "too many requests, please try again later"),
    ((TEMPORARY,), 500, "InternalError", "etcdserver: leader changed"),
    ((TEMPORARY,), 503, "ServiceUnavailable", "the server is currently unable to handle the request"),
    ((CONFIG,), 403, "Quota", 'pods "shop" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=9, limited: pods=9'),
):  # fmt: skip
    clusters.add(f"kubernetes-{_status}-{_reason}", _labels, lambda a=(_status, _reason, _text): _kubernetes_error(*a))
clusters.add("kubernetes-refused", NETWORK, lambda: _kubernetes(f"http://127.0.0.1:{closed_port()}"))


@clusters.case("kubernetes-no-settings", CONFIG)
def _kubernetes_settings() -> None:
    require_library("kubernetes.config").load_kube_config("/nonexistent/config")


@clusters.case("kubernetes-not-in-a-cluster", CONFIG)
def _kubernetes_in_cluster() -> None:
    require_library("kubernetes.config").load_incluster_config()


def _docker(url: str, act: Callable[[Any], object]) -> None:
    client = require_library("docker").DockerClient(base_url=url, version="1.45", timeout=5)
    try:
        act(client)
    finally:
        client.close()


def _docker_error(act: Callable[[Any], object], status: int, text: str) -> None:
    with http(_json(status, {"message": text})) as url:
        _docker(url, act)


for _id, _labels, _act, _status, _text in (
    ("image", (CONFIG, BUSINESS), lambda c: c.images.get("shop:1"), 404, "No such image: shop:1"),
    ("container", (BUSINESS, CONFIG), lambda c: c.containers.get("shop"), 404, "No such container: shop"),
    ("conflict", (CONFIG, BUSINESS), lambda c: c.containers.prune(), 409, "a prune operation is already running"),
    ("login", (CONFIG,), lambda c: c.images.pull("shop", "1"), 500, "Get https://registry.example/v2/: unauthorized: authentication required"),
    ("disk", (SYSTEM, TEMPORARY), lambda c: c.images.pull("shop", "1"), 500, "write /var/lib/docker/tmp/x: no space left on device"),
    ("denied", (CONFIG,), lambda c: c.images.pull("shop", "1"), 404, "pull access denied for shop, repository does not exist or may require 'docker login'"),
    ("rate", (TEMPORARY,), lambda c: c.images.pull("shop", "1"), 429, "toomanyrequests: You have reached your pull rate limit."),
):  # fmt: skip
    clusters.add(f"docker-{_id}", _labels, lambda a=(_act, _status, _text): _docker_error(*a))
clusters.add(
    "docker-refused", NETWORK, lambda: _docker(f"tcp://127.0.0.1:{closed_port()}", lambda client: client.ping())
)
clusters.add(
    "docker-no-daemon",
    (NETWORK, CONFIG),
    lambda: _docker("unix:///nonexistent/docker.sock", lambda client: client.ping()),
)


@clusters.each()
def test_clusters(case: Case) -> None:
    """kubernetes and docker."""
    check(case)


# -- Elasticsearch -----------------------------------------------------------------------------------------------------


def _search(url: str, act: Callable[[Any], object], **options: Any) -> None:
    from elasticsearch import Elasticsearch

    client = Elasticsearch(url, max_retries=0, **{"request_timeout": 5, **options})
    try:
        act(client)
    finally:
        client.close()


def _get(client: Any) -> None:
    client.get(index="orders", id="1")


def _index(client: Any) -> None:
    client.index(index="orders", document={"a": 1})


def _search_error(status: int, kind: str, text: str, act: Callable[[Any], object] = _index) -> None:
    document = {
        "error": {"root_cause": [{"type": kind, "reason": text}], "type": kind, "reason": text},
        "status": status,
    }
    with http(_json(status, document, X_Elastic_Product="Elasticsearch")) as url:
        _search(url, act)


for _labels, _status, _kind, _text in (
    ((CONFIG,), 404, "index_not_found_exception", "no such index [orders]"),
    ((TEMPORARY, DATA), 409, "version_conflict_engine_exception", "[1]: version conflict, current version [2] is different"),
    ((TEMPORARY,), 429, "circuit_breaking_exception", "[parent] Data too large, data for [<http_request>] would be larger than the limit"),
    ((TEMPORARY,), 429, "es_rejected_execution_exception", "rejected execution of coordinating operation"),
    ((DATA,), 400, "mapper_parsing_exception", "failed to parse field [age] of type [integer]"),
    ((DATA,), 400, "parsing_exception", "unknown query [mtach]"),
    ((CONFIG,), 401, "security_exception", "unable to authenticate user [app] for REST request"),
    ((CONFIG,), 403, "security_exception", "action [indices:data/write/index] is unauthorized for user [app]"),
    ((TEMPORARY, CONFIG), 403, "cluster_block_exception", "index [orders] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)]"),
    ((TEMPORARY,), 503, "master_not_discovered_exception", "null"),
    ((TEMPORARY,), 503, "no_shard_available_action_exception", "No shard available for [get [orders][1]]"),
    ((CONFIG, BUSINESS), 400, "resource_already_exists_exception", "index [orders] already exists"),
):  # fmt: skip
    search.add(f"{_status}-{_kind}", _labels, lambda a=(_status, _kind, _text): _search_error(*a))


@search.case("missing-document", BUSINESS)
def _missing_document() -> None:
    document = {"_index": "orders", "_id": "1", "found": False}
    with http(_json(404, document, X_Elastic_Product="Elasticsearch")) as url:
        _search(url, _get)


@search.case("another-product", CONFIG)
def _another_product() -> None:
    with http(_json(200, {})) as url:
        _search(url, _get)


search.add("refused", TEMPORARY, lambda: _search(f"http://127.0.0.1:{closed_port()}", _get))
search.add("dns", TEMPORARY, lambda: _search("http://search.regrow.invalid:9200", _get))
search.add("address", (CONFIG, DATA), lambda: _search("search.example", _get))


@search.case("timeout", TEMPORARY)
def _search_timeout() -> None:
    with serve(servers.silent) as port:
        _search(f"http://127.0.0.1:{port}", _get, request_timeout=0.2)


@search.each()
def test_search(case: Case) -> None:
    """A search cluster counts as a database."""
    check(case)


# -- gRPC --------------------------------------------------------------------------------------------------------------


@shared
@contextmanager
def grpc_port() -> Iterator[int]:
    """The port of a server whose one method fails as its request says; `sleep` takes too long."""
    grpc = require_library("grpc")

    def answer(request: bytes, context: Any) -> bytes:
        name, _, text = request.decode().partition(":")
        if name == "sleep":
            time.sleep(0.5)
            return b""
        context.abort(getattr(grpc.StatusCode, name), text)
        return b""

    pool = ThreadPoolExecutor(4)
    server = grpc.server(pool)
    methods = {"Ship": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", methods),))
    port = int(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait(servers.PATIENCE_SECONDS)
        pool.shutdown()


def _call(request: str, target: str = "", method: str = "Ship", timeout: float = 10) -> None:
    grpc = require_library("grpc")
    with grpc.insecure_channel(target or f"127.0.0.1:{grpc_port()}") as channel:
        channel.unary_unary(f"/shop.Orders/{method}")(request.encode(), timeout=timeout)


for _code, _labels, _text in (
    ("CANCELLED", (UNKNOWN, TEMPORARY), "cancelled"),
    ("UNKNOWN", (UNKNOWN, TEMPORARY), "Exception calling application"),
    ("INVALID_ARGUMENT", (DATA,), "weight must be positive"),
    ("DEADLINE_EXCEEDED", (NETWORK, TEMPORARY), "Deadline Exceeded"),
    ("NOT_FOUND", (BUSINESS,), "order 4711 not found"),
    ("ALREADY_EXISTS", (BUSINESS, DATA), "order 4711 already exists"),
    ("PERMISSION_DENIED", (CONFIG,), "The caller does not have permission"),
    ("RESOURCE_EXHAUSTED", (TEMPORARY,), "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute'"),
    ("FAILED_PRECONDITION", (DATA, BUSINESS), "the order is not paid"),
    ("ABORTED", (TEMPORARY,), "Transaction was aborted due to a concurrent modification"),
    ("OUT_OF_RANGE", (DATA,), "page 9 is past the end"),
    ("UNIMPLEMENTED", (CONFIG,), "Method not found!"),
    ("INTERNAL", (TEMPORARY,), "Internal error encountered."),
    ("UNAVAILABLE", (TEMPORARY,), "The service is currently unavailable."),
    ("DATA_LOSS", (DATA,), "unrecoverable data loss or corruption"),
    ("UNAUTHENTICATED", (CONFIG,), "Request had invalid authentication credentials."),
):
    rpc.add(_code, _labels, lambda c=_code, t=_text: _call(f"{c}:{t}"))
    rpc.add(f"{_code}/without-text", _labels, lambda c=_code: _call(f"{c}:"))
rpc.add("deadline", (NETWORK, TEMPORARY), lambda: _call("sleep", timeout=0.1))
rpc.add("missing-method", CONFIG, lambda: _call("x", method="Gone"))
rpc.add("refused", TEMPORARY, lambda: _call("x", f"127.0.0.1:{closed_port()}"))
rpc.add("dns", (TEMPORARY, NETWORK), lambda: _call("x", "dns:///regrow.invalid:50051"))


@rpc.case("another-protocol", TEMPORARY, CONFIG)
def _grpc_protocol() -> None:
    with http(response(400, "plain")) as url:
        _call("x", url.removeprefix("http://"), timeout=1)


@rpc.each()
def test_grpc(case: Case) -> None:
    """Each status code, with words and without."""
    check(case)


# -- a browser ---------------------------------------------------------------------------------------------------------


def _page(act: Callable[[Any], object]) -> Callable[[], None]:
    def provoke() -> None:
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.skip("no chromium here: no page can fail to load")
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            with contextlib.closing(started):
                act(started.new_page())

    return provoke


browser.add("refused", NETWORK, _page(lambda page: page.goto(f"http://127.0.0.1:{closed_port()}/")))
browser.add("dns", NETWORK, _page(lambda page: page.goto("http://regrow.invalid/")))
browser.add("address", (DATA, CONFIG), _page(lambda page: page.goto("no address")))
browser.add("selector", (DATA, NETWORK), _page(lambda page: page.click("#gone", timeout=100)))


def _slow(page: Any) -> None:
    with serve(servers.silent) as port:
        page.goto(f"http://127.0.0.1:{port}/", timeout=300)


browser.add("navigation-timeout", NETWORK, _page(_slow))


@browser.case("not-installed", CONFIG)
def _no_browser() -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        playwright.chromium.launch(executable_path="/nonexistent/chromium")


@browser.each()
def test_browser(case: Case) -> None:
    """A page that does not load is the network."""
    check(case)
