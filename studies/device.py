"""`fedhq profile --device`: this machine as a device of a fleet, from its measured steps."""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from ..allocator.hardware import DeviceProfile, StepProfile
from ..allocator.strategy import parse_menu
from ..fl_core.profiling import shipped_profile


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that make a device of the measurement."""
    group = parser.add_argument_group(
        "a device of a fleet",
        "Writes a device profile, for fleet.path, instead of a step profile: how much slower than "
        "a reference this machine is, strategy by strategy.",
    )
    group.add_argument("--device", metavar="NAME", help="its class of devices, for reports")
    group.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="step profile to compare with (default: the shipped one of the data and model)",
    )
    group.add_argument(
        "--uplink", type=float, metavar="B/S", help="bytes a second it sends; not measured"
    )
    group.add_argument(
        "--downlink", type=float, metavar="B/S", help="bytes a second it receives; not measured"
    )
    group.add_argument(
        "--watts", type=float, metavar="W", help="power that training takes (default: not known)"
    )


def read_reference(options: argparse.Namespace, menu: Sequence[str]) -> StepProfile | None:
    """The step profile that a device is compared with; None where no device is asked for.

    Args:
        options: Of `add_device_arguments`, and `data` and `model`.
        menu: Strategies that it must hold.

    Raises:
        ValueError: If the options do not come together, or there is no such profile.
    """
    if options.device is None:
        for name in ("reference", "uplink", "downlink", "watts"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name}: belongs to a device profile. Add --device NAME.")
        return None
    for name in ("uplink", "downlink"):
        if getattr(options, name) is None:
            raise ValueError(
                f"--device {options.device}: needs --uplink and --downlink in bytes a second, "
                f"which are not measured, but --{name} lacks."
            )
    # Raises before it takes time to measure, if a rate or the watts are impossible.
    DeviceProfile("", 1.0, options.uplink, options.downlink, active_watts=options.watts or 0.0)
    if options.reference is not None:
        reference = StepProfile.load(options.reference)
    else:
        mend = "Give the one of your reference machine by --reference FILE."
        reference = shipped_profile(f"{options.data}-{options.model}.json", mend)
    reference.select(parse_menu(menu))
    return reference


def measured_device(
    options: argparse.Namespace, measured: StepProfile, reference: StepProfile
) -> DeviceProfile:
    """The device that the options ask for; its memory is all of this machine's."""
    return device_of(
        options.device,
        measured,
        reference,
        uplink_bytes_per_second=options.uplink,
        downlink_bytes_per_second=options.downlink,
        memory_bytes=_memory_bytes(),
        active_watts=options.watts or 0.0,
    )


def device_of(
    name: str,
    measured: StepProfile,
    reference: StepProfile,
    *,
    uplink_bytes_per_second: float,
    downlink_bytes_per_second: float,
    memory_bytes: float = math.inf,
    active_watts: float = 0.0,
) -> DeviceProfile:
    """A device profile: this machine's steps over the reference machine's.

    Args:
        name: Of its class.
        measured: Steps on this machine.
        reference: Steps of the same model, batch size and strategies on the reference machine.
        uplink_bytes_per_second: Rate at which it sends.
        downlink_bytes_per_second: Rate at which it receives.
        memory_bytes: What a training step may take.
        active_watts: Power that training takes; 0 where it is not known.

    Returns:
        The profile; its `slowdown`, for strategies that were not measured, is the median of those
        that were.

    Raises:
        ValueError: If the profiles are not of the same model and batch size, a strategy lacks in
            the reference, or all skip.
    """
    ours, theirs = ((p.model, p.batch_size) for p in (measured, reference))
    if ours != theirs:
        raise ValueError(
            f"the reference must be of {ours[0]!r} at batch size {ours[1]}, but is of "
            f"{theirs[0]!r} at {theirs[1]}. Change --data, --model or --batch-size, or --reference."
        )
    base = reference.select(measured.strategies).step_seconds
    slowdowns = tuple(
        (strategy, float(mine / other))
        for strategy, mine, other in zip(
            measured.strategies, measured.step_seconds, base, strict=True
        )
        if not strategy.is_skip
    )
    if not slowdowns:
        raise ValueError("--menu: must have a strategy that trains, but all skip.")
    return DeviceProfile(
        device_class=name,
        slowdown=statistics.median(value for _, value in slowdowns),
        uplink_bytes_per_second=uplink_bytes_per_second,
        downlink_bytes_per_second=downlink_bytes_per_second,
        memory_bytes=memory_bytes,
        active_watts=active_watts,
        slowdowns=slowdowns,
    )


def _memory_bytes() -> float:
    """Bytes of physical memory; unlimited where the system does not say."""
    try:
        size = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf
    return size if size > 0 else math.inf
