"""The metrics of replies: those that weigh, and those that Flower's strategies can combine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from flwr.app import Message, MetricRecord

from ....allocator.errors import WireError
from .roster import short

MOST_EXAMPLES = 2**32 - 1
"""What an update's field for its examples holds; no reply weighs more."""


def read_metrics(reply: Message, weight_key: str | None) -> tuple[str, MetricRecord, float]:
    """Name of the one record of metrics, the record, and the weight.

    Raises:
        WireError: If there are more or none, a value is not finite, or the weight is no number
            above 0 and up to `MOST_EXAMPLES`.
    """
    records = reply.content.metric_records
    if weight_key is None and not records:
        return "", MetricRecord(), 1.0
    _require(len(records) == 1, "a reply has one MetricRecord", sorted(records)[:5])
    ((key, metrics),) = records.items()
    for name, value in metrics.items():
        numbers = value if isinstance(value, list) else [value]
        _require(all(map(math.isfinite, numbers)), f"metric {name!r} is finite", short(str(value)))
    if weight_key is None:
        return key, metrics, 1.0
    weight = metrics.get(weight_key)
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    _require(is_number, f"metric {weight_key!r} is a number", short(str(weight)))
    assert isinstance(weight, int | float)
    _require(weight > 0, f"metric {weight_key!r} > 0", weight)
    _require(weight <= MOST_EXAMPLES, f"metric {weight_key!r} < 2**32", f"{weight:g}")
    return key, metrics, float(weight)


def check_count(told: int, weight: float) -> None:
    """Whether an update names the examples by which its reply is weighed.

    Args:
        told: Examples that the update names; 0 where the weight is no whole number.
        weight: Of the reply.

    Raises:
        WireError: If it names others.
    """
    expected = int(weight) if weight == int(weight) else 0
    _require(told == expected, f"examples = {expected}", told)


def common_metrics(replies: Sequence[MetricRecord]) -> frozenset[tuple[str, int]]:
    """Names, and lengths of lists, of the metrics that most replies have; see `has_metrics`.

    Flower's strategies end the run where they differ; so one client must not decide alone. Of
    equally many the fewer metrics, which more replies have.
    """
    forms = Counter(_form(metrics) for metrics in replies)
    return max(forms, key=lambda form: (forms[form], -len(form), sorted(form)))


def has_metrics(metrics: MetricRecord, form: frozenset[tuple[str, int]]) -> bool:
    """Whether it has all metrics of a form."""
    return form <= _form(metrics)


def unlike(metrics: MetricRecord, form: frozenset[tuple[str, int]]) -> str:
    """What keeps metrics from having a form, as a text.

    Example:
        >>> unlike(MetricRecord({"a": [1.0]}), frozenset({("a", 2), ("b", -1)}))
        "its metrics lack ['b'] and differ in length at ['a']. Run the same app everywhere."
    """
    lacking = sorted(name for name, _ in form if name not in metrics)
    others = sorted(name for name, _ in form - _form(metrics) if name in metrics)
    reasons = [f"lack {lacking[:5]}"] if lacking else []
    reasons += [f"differ in length at {others[:5]}"] if others else []
    return f"its metrics {' and '.join(reasons)}. Run the same app everywhere."


def only_metrics(metrics: MetricRecord, form: frozenset[tuple[str, int]]) -> MetricRecord:
    """The metrics of a form, sorted by name."""
    return MetricRecord({name: metrics[name] for name in sorted(name for name, _ in form)})


def _form(metrics: MetricRecord) -> frozenset[tuple[str, int]]:
    return frozenset(
        (name, len(value) if isinstance(value, list) else -1) for name, value in metrics.items()
    )


def _require(holds: bool, rule: str, got: object) -> None:
    if not holds:
        raise WireError(f"`{rule}` must hold, but got {got}: mend the metrics in the client's app.")
