"""User attributes as the dashboard shows them: one readable value each in place of whole records.

The dashboard cuts long values off, and sorts its table only by numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..search.record import STUDY_KEY, TRIAL_KEY, study_record, trial_record
from ..search.report.words import censored


def study_attributes(own: Mapping[str, Any]) -> dict[str, Any]:
    """A study's user attributes, the record of a search spelled out."""
    record = study_record(own)
    if record is None:
        return dict(own)
    told = {
        "objectives": ", ".join(record.objectives),
        "limits": limits_text(record.limits),
        "menu": ", ".join(record.menu),
        "clients": record.clients,
        "command": record.command,
        "digest": record.digest,
    }
    return told | {key: value for key, value in own.items() if key != STUDY_KEY}


def trial_attributes(own: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's user attributes, its record spelled out.

    Example:
        >>> trial_attributes({"source": "uniform"})
        {'source': 'uniform'}
    """
    record = trial_record(own)
    if record is None:
        return dict(own)
    told: dict[str, Any] = {
        **{name: censored(record, name) or value for name, value in record.shown.items()},
        "allocation": counts_text(record.counts),
        "bottleneck": "nobody" if record.bottleneck is None else f"client {record.bottleneck}",
        "solution": record.status if not record.gap else f"{record.status}, gap {record.gap:.2g}",
        "seeds": ", ".join(map(str, record.seeds)),
        "evaluation_seconds": record.wall_seconds,
    }
    return told | {key: value for key, value in own.items() if key != TRIAL_KEY}


def counts_text(counts: Mapping[str, int]) -> str:
    """How many clients do each strategy.

    Example:
        >>> counts_text({"skip": 0, "ptq-w2a2": 3, "qat-w2a2": 7})
        '3 ptq-w2a2, 7 qat-w2a2'
    """
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def limits_text(limits: Mapping[str, float]) -> str:
    """Upper limits of measures.

    Example:
        >>> limits_text({"round_seconds": 5.0}), limits_text({})
        ('round_seconds <= 5', 'none')
    """
    return ", ".join(f"{name} <= {limit:g}" for name, limit in limits.items()) or "none"
