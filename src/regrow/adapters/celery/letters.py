"""Kept calls as messages: field by field what `apply_async` would publish, found out once for each task.

`apply_async` asks the router, describes the arguments, and looks up and copies the queue for each message anew, which
is most of its time. Where Celery might do something that is not known here (receivers of its signals, routers in code,
other serializers, a task with an `apply_async` of its own ...) there is no letter, and the call goes through
`apply_async`. tests/integration/test_publishing.py holds the two ways against each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery, Task, signals
from celery.app.amqp import AMQP
from celery.app.routes import MapRoute
from kombu.common import Broadcast
from kombu.entity import maybe_delivery_mode
from kombu.serialization import registry
from kombu.utils.functional import maybe_list
from kombu.utils.json import dumps

from regrow.adapters.celery import envelope
from regrow.model import Due, Header

#: Options that `Celery.send_task` and `send_task_message` take for themselves; others become properties of the message.
_TAKEN = frozenset(
    {
        *("chain", "chord", "countdown", "delivery_mode", "exchange", "expires", "group_id", "group_index", "headers"),
        *("ignore_result", "link", "link_error", "parent_id", "queue", "replaced_task_nesting", "reply_to", "retries"),
        *("root_id", "routing_key", "serializer", "shadow", "soft_time_limit", "task_id", "time_limit"),
    }
)
_PROPERTIES = ("priority", "origin", "argsrepr", "kwargsrepr")
_KNOWN = _TAKEN.union(_PROPERTIES)
#: What a task may set for all of its calls (`Task.from_config`).
_OF_TASKS = frozenset(
    {
        *("delivery_mode", "exchange", "expires", "priority", "queue", "routing_key", "serializer"),
        *("soft_time_limit", "time_limit"),
    }
)
#: Version of Celery's messages that is known here.
_PROTOCOL = 2
_METHODS = ("apply_async", "shadow_name", "_get_exec_options")

_encode = json.JSONEncoder().encode


@dataclass(frozen=True, slots=True, eq=False)
class Road:
    """How the messages of one task to one place travel.

    Args:
        exchange: Name of the exchange, '' for the one that leads to each queue by its name.
        routing_key: Of the messages.
        delivery_mode: 2 if the broker is to keep them on disk, else 1.
        declare: What must be there before the first message.
        options: What the task itself sets for calls that do not say it.
        routed: The properties that a route has set; None if the router has had nothing to add.
        check: Raises TypeError for arguments that do not fit the task.
    """

    exchange: str
    routing_key: str
    delivery_mode: int
    declare: tuple[Any, ...]
    options: Mapping[str, Any]
    routed: Mapping[str, Any] | None
    check: Callable[..., object] | None


@dataclass(slots=True)
class Letter:
    """One message.

    Args:
        failure: Id in the ledger.
        road: How it travels.
        headers: Celery's and ours.
        body: JSON text.
        properties: Without those that come from the road.
    """

    failure: int
    road: Road
    headers: dict[str, Any]
    body: str
    properties: dict[str, Any]


class Letters:
    """Writes letters for one application.

    Args:
        app: The Celery application.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._roads: dict[tuple[str, Any, Any, Any], Road | None] = {}

    def able(self) -> bool:
        """True if nothing in the application asks to take part in publishing."""
        app = self._app
        conf = app.conf
        json_codec = getattr(registry, "_encoders", {}).get("json")
        return (
            type(app).send_task is Celery.send_task
            and "send_task" not in vars(app)
            and type(app.amqp) is AMQP
            and not conf.task_always_eager
            and not conf.task_send_sent_event
            and conf.task_protocol == _PROTOCOL
            and not conf.task_compression
            and all(isinstance(route, MapRoute) for route in app.amqp.router.routes)
            and not signals.before_task_publish.receivers
            and not signals.after_task_publish.receivers
            and not signals.task_sent.receivers
            and json_codec is not None
            and json_codec.encoder is dumps
        )

    def bound_to(self, exchange: str) -> tuple[Any, ...]:
        """The application's queues that an exchange leads to.

        They are declared before something is sent there: on a broker of kombu's own (Redis) a process that has not
        declared an exchange takes it for a direct one, and finds no queue.
        """
        return tuple(one for one in self._app.amqp.queues.values() if one.exchange and one.exchange.name == exchange)

    def letter(self, due: Due, call: Mapping[str, Any], header: Header) -> Letter | None:
        """The message of a kept call; None if only Celery can make it.

        Raises:
            TypeError: The call no longer fits the task.
        """
        options = call["options"]
        if not options.keys() <= _KNOWN:
            return None
        where = (call["task"], options.get("queue"), options.get("exchange"), options.get("routing_key"))
        try:
            road = self._roads[where]
        except KeyError:
            road = self._roads[where] = self._road(*where)
        if road is None:
            return None
        args, kwargs = call["args"] or (), call["kwargs"] or {}
        if road.check is not None:
            road.check(*args, **kwargs)
        options = {**road.options, **options}
        more = {name: options[name] for name in _PROPERTIES if name in options}
        if road.routed is not None:  # where the router adds something, it leaves out what is None
            more = {**road.routed, **{name: value for name, value in more.items() if value is not None}}
        message = self._app.amqp.create_task_message(
            options["task_id"],
            call["task"],
            args,
            kwargs,
            group_id=options.get("group_id"),
            group_index=options.get("group_index"),
            retries=options.get("retries") or 0,
            chord=options.get("chord"),
            callbacks=maybe_list(options.get("link")),
            errbacks=maybe_list(options.get("link_error")),
            reply_to=options.get("reply_to") or self._app.thread_oid,
            time_limit=options.get("time_limit"),
            soft_time_limit=options.get("soft_time_limit"),
            root_id=options.get("root_id"),
            parent_id=options.get("parent_id"),
            shadow=options.get("shadow"),
            chain=options.get("chain"),
            ignore_result=options.get("ignore_result"),
            replaced_task_nesting=options.get("replaced_task_nesting", 0),
            **more,
        )
        headers = {**message.headers, **envelope.stamped(options.get("headers"), header)}
        # What kombu writes as an object of its own has such a key; all else is the same for any encoder.
        plain = envelope.OBJECT not in (due.envelope or "")
        body = _encode(message.body) if plain else dumps(message.body)
        return Letter(due.failure, road, headers, body, {**message.properties, **more})

    def _road(self, name: str, queue: Any, exchange: Any, routing_key: Any) -> Road | None:
        app = self._app
        task = app.tasks.get(name)
        preset: dict[str, Any] = {}
        if task is not None:
            changed = any(getattr(type(task), method) is not getattr(Task, method) for method in _METHODS)
            limits = task.soft_time_limit and task.time_limit and task.soft_time_limit > task.time_limit
            if changed or limits or task.__v2_compat__ or getattr(task, "_dump_pydantic_arguments", None) is not None:
                return None
            preset = {key: value for key, value in task._get_exec_options().items() if value is not None}  # noqa: SLF001
        asked = {"queue": queue, "exchange": exchange, "routing_key": routing_key}
        given = {key: value for key, value in asked.items() if value is not None}
        own = {key: value for key, value in preset.items() if key in asked}
        router = app.amqp.router
        routed = router.route({**own, **given}, name, (), {}, task)
        serializer = preset.get("serializer") or app.conf.task_serializer
        if not preset.keys() <= _OF_TASKS or not routed.keys() <= {*asked, "priority"} or serializer != "json":
            return None
        found = routed.get("queue")
        if isinstance(found, Broadcast):
            return None
        exchange, routing_key = routed.get("exchange"), routed.get("routing_key")
        if found is None and exchange is None:
            found = app.amqp.default_queue
        kind = "direct" if found is None or found.exchange is None else found.exchange.type
        # As `AMQP._create_task_sender` does it: a direct exchange is left out where the queue's name leads there.
        if (not exchange or not routing_key) and kind == "direct":
            if found is None:
                return None
            exchange, routing_key = "", found.name
        elif exchange is None:
            exchange = (found.exchange.name if found is not None else "") or app.amqp.default_exchange
            routing_key = routing_key or (found.routing_key if found is not None else "")
            routing_key = routing_key or app.conf.task_default_routing_key
        mode = preset.get("delivery_mode")
        if mode is None and found is not None and found.exchange is not None:
            mode = found.exchange.delivery_mode
        mode = maybe_delivery_mode(mode or app.conf.task_default_delivery_mode)
        if not isinstance(exchange, str) or not isinstance(routing_key, str):
            return None
        options: dict[str, Any] = {}
        if task is not None:
            options = {name: preset.get(name) for name in ("priority", "time_limit", "soft_time_limit")}
            options["ignore_result"] = task.ignore_result
        check = getattr(task, "__header__", None) if task is not None and task.typing else None
        merged = "queue" not in {**own, **given} or router.lookup_route(name, (), {}, {}, task) is not None
        extras = {"priority": routed["priority"]} if "priority" in routed else {}
        declare = self.bound_to(exchange) if exchange else ()
        declare = declare or (() if found is None else (found,))
        return Road(exchange, routing_key, mode, declare, options, extras if merged else None, check)
