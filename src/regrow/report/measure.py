"""When to raise the alarm (G18), and how well it goes (G17)."""

from __future__ import annotations

from dataclasses import dataclass

from regrow.model import Figures
from regrow.ports import Words

FAILURE_RATE = "failure_rate_threshold"
RECOVERY_FAILURE = "recovery_failure_threshold"
NOTIFICATION_DELAY = "notification_delay_threshold"
UNKNOWN_ERROR = "unknown_error_threshold"

#: The guide's names of the thresholds.
THRESHOLDS = (FAILURE_RATE, RECOVERY_FAILURE, NOTIFICATION_DELAY, UNKNOWN_ERROR)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on a figure is an alert. Source: the guide's ALERT_THRESHOLDS.

    Args:
        failure_rate_percent: More than this share of all runs failed.
        recovery_failures: So many recoveries or more failed one after another.
        notification_minutes: A message took longer than this.
        unknown_errors: More than so many failures of unknown cause.
        window_minutes: The window over which the figures are taken.
        minimum_runs: With fewer runs than this in the window the failure rate says nothing: at night one of two may
            fail. With 10, the guide's 20 % needs three failed runs.
    """

    failure_rate_percent: float = 20
    recovery_failures: int = 5
    notification_minutes: float = 10
    unknown_errors: int = 10
    window_minutes: float = 60
    minimum_runs: int = 10


@dataclass(frozen=True, slots=True)
class Breach:
    """A figure that has passed its threshold.

    Args:
        name: The guide's name of the threshold.
        value: The figure: per cent, minutes or a count.
        limit: The threshold in the same unit.
    """

    name: str
    value: float
    limit: float


def breaches(figures: Figures, thresholds: Thresholds) -> list[Breach]:
    """The figures of a window that have passed their thresholds; one without data has not."""
    found = []
    enough = figures.runs >= max(1, thresholds.minimum_runs)
    rate = 100 * min(1.0, figures.failed_runs / figures.runs) if enough else 0.0
    if rate > thresholds.failure_rate_percent:
        found.append(Breach(FAILURE_RATE, rate, thresholds.failure_rate_percent))
    if figures.streak >= max(1, thresholds.recovery_failures):
        found.append(Breach(RECOVERY_FAILURE, figures.streak, thresholds.recovery_failures))
    delay = (figures.telling_seconds or 0.0) / 60
    if delay > thresholds.notification_minutes:
        found.append(Breach(NOTIFICATION_DELAY, delay, thresholds.notification_minutes))
    if figures.unknown > thresholds.unknown_errors:
        found.append(Breach(UNKNOWN_ERROR, figures.unknown, thresholds.unknown_errors))
    return found


def breach_text(breach: Breach, _: Words) -> str:
    """The alert as one line."""
    text = {
        FAILURE_RATE: _("Failure rate {value}%, more than the limit of {limit}%"),
        RECOVERY_FAILURE: _("{value} recoveries failed one after another, the limit is {limit}"),
        NOTIFICATION_DELAY: _("Messages take up to {value} minutes, more than the limit of {limit}"),
        UNKNOWN_ERROR: _("{value} failures of unknown cause, more than the limit of {limit}"),
    }[breach.name]
    return text.format(value=_figure(breach.value, breach.limit), limit=f"{breach.limit:g}")


def over_text(name: str, _: Words) -> str:
    """What is said when a threshold is passed no longer, as one line."""
    return {
        FAILURE_RATE: _("The failure rate is no longer above its limit"),
        RECOVERY_FAILURE: _("Recoveries that fail one after another are below their limit again"),
        NOTIFICATION_DELAY: _("Messages are no longer later than their limit"),
        UNKNOWN_ERROR: _("Failures of unknown cause are no longer above their limit"),
    }[name]


def _figure(value: float, limit: float) -> str:
    """A figure with as many decimals as it takes to tell it from its limit, at least one where it is not whole."""
    shown = (round(value, decimals) for decimals in range(1, 9))
    return f"{next((one for one in shown if one != limit), limit):.10g}"


# -- targets ----------------------------------------------------------------------------------------------------------

#: Fewer confirmed answers than this say little about accuracy: one wrong answer of 20 is exactly the 95 % of the guide.
ENOUGH_CONFIRMED = 20


@dataclass(frozen=True, slots=True)
class Target:
    """A figure beside its target.

    Args:
        name: Its name for programs.
        text: Its name for people.
        value: The figure in per cent or minutes; None if there is no data.
        target: What it should be, as the guide writes it: `>80%`.
        met: True if it is; None if there is no data.
        shown: The figure for people; `-` if there is no data.
    """

    name: str
    text: str
    value: float | None
    target: str
    met: bool | None
    shown: str


def targets(figures: Figures, _: Words) -> list[Target]:
    """The guide's four figures, each with its target."""
    ended = figures.recovered + figures.exhausted
    recovery = 100 * figures.recovered / ended if ended else None
    return [
        _above("auto_recovery_rate", _("Auto-recovery success rate"), recovery, 80),
        _within("handling_latency", _("Handling latency (longest)"), figures.handling_seconds, 30, _),
        _accuracy(figures, _),
        _within("notification_delay", _("Notification delay (longest)"), figures.telling_seconds, 5, _),
    ]


def _accuracy(figures: Figures, _: Words) -> Target:
    name, text, n = "classification_accuracy", _("Classification accuracy"), figures.confirmed
    if n >= ENOUGH_CONFIRMED:
        return _above(name, text, 100 * figures.confirmed_right / n, 95)
    estimate = None if figures.confidence is None else 100 * figures.confidence
    note = _("{value} (an estimate: {n} of {needed} needed answers are confirmed)")
    return _above(name, text, estimate, 95, note.format(value="{value}", n=n, needed=ENOUGH_CONFIRMED))


def _above(name: str, text: str, value: float | None, limit: float, form: str = "{value}") -> Target:
    """A share that should be above `limit` per cent."""
    if value is None:
        return Target(name, text, None, f">{limit:g}%", None, "-")
    return Target(name, text, value, f">{limit:g}%", value > limit, form.format(value=f"{_figure(value, limit)}%"))


def _within(name: str, text: str, seconds: float | None, limit: float, _: Words) -> Target:
    """A time that should be below `limit` minutes."""
    target = "<" + _("{n} minutes").format(n=f"{limit:g}")
    if seconds is None:
        return Target(name, text, None, target, None, "-")
    value = seconds / 60
    shown = (
        _("{n} seconds").format(n=f"{seconds:.0f}") if value < 1 else _("{n} minutes").format(n=_figure(value, limit))
    )
    return Target(name, text, value, target, value < limit, shown)
