"""The page of the study, and its figure in plain text."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...allocator.roofline import DeviceRates, OperationEnergy
from .cases import FLOAT, MENU, Case
from .errors import (
    KNOWN_BATCH,
    Listing,
    Prediction,
    Setting,
    calibrated,
    memory_ratios,
    predictions,
    qat_seconds,
    quantile,
    without_each_network,
)
from .measuring import Measured
from .published import published_lines

GOAL_MEDIAN, GOAL_WORST = 0.10, 0.25
_BINS = (0.0, 0.02, 0.05, 0.10, 0.15, 0.25, 0.5, np.inf)
_WORST_SHOWN = 6

_HEAD = """# Predicted step times against measured ones

{machine}

A step is predicted from the operators that it runs (`models.list_operators`) and twelve rates of
the device (`allocator.roofline`). Every prediction is of a network that was left out, with all
its image sizes and batch sizes, of the steps from which the rates come; other networks and three
probes gave them. Which kinds of work have a rate of their own was chosen by the errors of earlier
runs on these same networks, so the page flatters the choice, though not the rates.

Times are processor time of one thread; of the medians of several passes over all cases the least.
Predicted are a step in float (PTQ trains so) and one of QAT, at batch sizes {sizes}. QAT is
predicted alike for all bits, so it counts once: against the median of W2A2, W3A3, W4A4 and W8A8.

What was measured of the network that is predicted: **a** its float step at the same batch size,
**b** its float step at batch {known}, **c** nothing. Goal of a and b: median at most 10 %, worst
at most 25 %.
"""
_SETTINGS = {
    Setting.SAME_BATCH: "a: float step, same batch size",
    Setting.ONE_BATCH: f"b: float step, batch {KNOWN_BATCH}",
    Setting.NOTHING: "c: nothing",
}
_DEVICES = """## Devices that were timed in float only

This machine plays other devices: torch restricted to older instructions, and fake quantization by
plain torch. The rates are this machine's as it is, again of other networks only, times the one
factor of the float step at batch {known}; predicted are the QAT steps. The compiled fake
quantization keeps its instructions, so the ratio of QAT to float does change. Where a device
quantizes by other *kernels* than the reference, one float step cannot tell: time a QAT step there
as well (`fedhq profile --device`).
"""
_MEMORY = """## Memory

Predicted memory is counted, not fitted: what a step keeps for its backward pass, and weights,
gradients and momentum. Over the most that torch's allocator held at once in a step (which
includes what operators hold only while they run), over the networks: {share}. A device near its
limit needs headroom.
"""
_ENERGY = """## Energy

Not measured: this machine has no meter that we can read. A device's joules are its watts times
the predicted seconds (`DeviceProfile.active_watts`). Against the sum over operators for a 45 nm
chip (facts E3: 4.6 pJ a multiply-add, 160 pJ a byte from DRAM), QAT over float takes {energy} by
operators, and {time} by time. That is a check of plausibility and no more.
"""


@dataclass(frozen=True)
class Evidence:
    """All that the page tells of.

    Args:
        machine: The line that says what was measured on.
        measured: On this machine as it is.
        devices: On the devices that it plays, by their names.
        listing: What the steps compute.
    """

    machine: str
    measured: Sequence[Measured]
    devices: Mapping[str, Sequence[Measured]]
    listing: Listing


def page(evidence: Evidence) -> str:
    """The page in Markdown."""
    measured, listing = evidence.measured, evidence.listing
    rates = without_each_network(measured, listing)
    found = {setting: predictions(setting, measured, listing, rates) for setting in Setting}
    sizes = sorted({one.case.batch_size for one in measured})
    parts = [
        _HEAD.format(machine=evidence.machine, sizes=", ".join(map(str, sizes)), known=KNOWN_BATCH),
        _summary({_SETTINGS[setting]: each for setting, each in found.items()}),
        _against_each(found),
        _figure({_SETTINGS[setting]: each for setting, each in found.items()}),
        "## By network\n",
        _by_network(found),
        "## The worst\n",
        _worst([*found[Setting.SAME_BATCH], *found[Setting.ONE_BATCH]]),
        _DEVICES.format(known=KNOWN_BATCH),
        _summary(dict(_on_devices(evidence, found, rates))),
        "## Rates\n",
        _rates(evidence),
        _MEMORY.format(share=_memory(evidence)),
        _ENERGY.format(energy=_energy_ratio(evidence), time=_time_ratio(evidence)),
        *published_lines(),
    ]
    return "\n".join(parts)


def _summary(found: Mapping[str, Sequence[Prediction]]) -> str:
    lines = [
        "| what was measured | predictions | median error | nine in ten within | worst | goal |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, each in found.items():
        middle, most, worst = (quantile(each, at) for at in (0.5, 0.9, 1.0))
        goal = "" if name.startswith("c") else _verdict(middle, worst)
        cells = (
            percent(middle, GOAL_MEDIAN),
            f"{most:.1%}",
            percent(worst, GOAL_WORST),
            goal,
        )
        lines.append(f"| {name} | {len(each)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _against_each(found: Mapping[Setting, Sequence[Prediction]]) -> str:
    """What the median over bits hides: it must not turn a missed goal into one that is reached."""
    told = (
        f"{setting} {percent(max(one.worst_error for one in found[setting]), GOAL_WORST)}"
        for setting in Setting
    )
    return f"Against each of the bits alone, not their median, the worst is {', '.join(told)}.\n"


def percent(error: float, limit: float) -> str:
    """An error with as many digits as tell it from a limit that it misses: one, or two.

    Example:
        >>> percent(0.2503, 0.25), percent(0.25, 0.25), percent(0.246, 0.25)
        ('25.03%', '25.0%', '24.6%')
    """
    text = f"{error:.1%}"
    return f"{error:.2%}" if error > limit and text == f"{limit:.1%}" else text


def _verdict(middle: float, worst: float) -> str:
    if middle <= GOAL_MEDIAN and worst <= GOAL_WORST:
        return "reached"
    bad = {"median": middle > GOAL_MEDIAN, "worst": worst > GOAL_WORST}
    missed = [name for name, is_bad in bad.items() if is_bad]
    return f"**{' and '.join(missed)} missed**"


def _figure(found: Mapping[str, Sequence[Prediction]]) -> str:
    """How the errors are spread: a bar for each range of them."""
    lines = ["```text", "share of the predictions with an error of"]
    for name, each in found.items():
        lines.append(f"\n{name}")
        errors = np.array([abs(one.error) for one in each])
        for low, high in pairwise(_BINS):
            share = float(((errors >= low) & (errors < high)).mean())
            span = f"{low:.0%} to {high:.0%}" if np.isfinite(high) else f"above {low:.0%}"
            lines.append(f"{span:>12}  {'#' * round(share * 50):50} {share:4.0%}")
    return "\n".join([*lines, "```", ""])


def _by_network(found: Mapping[Setting, Sequence[Prediction]]) -> str:
    """Median signed errors: which way each network is missed."""
    labels = sorted({one.case.label for each in found.values() for one in each})
    lines = ["| network | a | b | c |", "|---|---:|---:|---:|"]
    for label in labels:
        cells = []
        for setting in Setting:
            errors = [one.error for one in found[setting] if one.case.label == label]
            cells.append(f"{statistics.median(errors):+.1%}" if errors else "")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _worst(found: Sequence[Prediction]) -> str:
    lines = [
        "| network | batch | step | measured | predicted | error |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for one in sorted(found, key=lambda each: -abs(each.error))[:_WORST_SHOWN]:
        times = " | ".join(f"{t * 1e3:.3f} ms" for t in (one.measured, one.predicted))
        where = f"{one.case.label} | {one.case.batch_size} | {'QAT' if one.is_qat else 'float'}"
        lines.append(f"| {where} | {times} | {one.error:+.1%} |")
    return "\n".join(lines) + "\n"


def _on_devices(
    evidence: Evidence,
    found: Mapping[Setting, Sequence[Prediction]],
    rates: Mapping[str, DeviceRates],
) -> Iterator[tuple[str, Sequence[Prediction]]]:
    here = [p for p in found[Setting.SAME_BATCH] if p.case.batch_size == KNOWN_BATCH]
    yield "this machine, for comparison", here
    for name, measured in evidence.devices.items():
        yield name, predictions(Setting.SAME_BATCH, measured, evidence.listing, rates)


def _rates(evidence: Evidence) -> str:
    """What all steps together give; the rates that ship are made so."""
    rates = calibrated(evidence.measured, evidence.listing, evidence.machine)
    lines = ["| rate | value |", "|---|---:|"]
    for name, value in zip(rates.names(), rates.values, strict=True):
        lines.append(f"| `{name}` | {value:.3g} |")
    return "\n".join(lines) + "\n"


def _memory(evidence: Evidence) -> str:
    ratios = [ratio for _, ratio in memory_ratios(evidence.measured, evidence.listing)]
    return f"median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}"


def _energy_ratio(evidence: Evidence) -> str:
    chip = OperationEnergy()
    steps = [evidence.listing[case] for case in _networks(evidence)]
    return _span([chip.joules(s.quantizing) / chip.joules(s.in_float) for s in steps])


def _time_ratio(evidence: Evidence) -> str:
    at = MENU.index(FLOAT)
    own = [m for m in evidence.measured if not m.case.is_probe]
    return _span([qat_seconds(m) / m.seconds[at] for m in own])


def _networks(evidence: Evidence) -> list[Case]:
    return [one.case for one in evidence.measured if not one.case.is_probe]


def _span(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} times ({min(values):.2f} to {max(values):.2f})"
