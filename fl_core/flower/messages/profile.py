"""What a client tells of itself, once, before it is first planned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....allocator.device import DeviceProfile
from ....allocator.hardware import StepProfile, analyse_hardware
from ....allocator.strategy import Strategy, parse_menu, parse_strategy
from .fields import Fields, refuse
from .orders import RECORD, VERSION, as_text

if TYPE_CHECKING:
    from torch import nn

MOST_STRATEGIES = 256
_MOST_CLASSES = 1 << 16
_MOST_NAME_CHARS = 256
_MOST_EXAMPLES = 2**32 - 1
_LEAST_RATE, _LEAST_SECONDS, _MOST = 1e-3, 1e-9, 1e15
"""Within these whatever is planned stays finite: sums, products, squares."""

_RATES = {
    "uplink-bytes-per-second": "uplink_bytes_per_second",
    "downlink-bytes-per-second": "downlink_bytes_per_second",
}


@dataclass(frozen=True)
class ClientProfile:
    """What a client tells of itself; all but the name may be left out.

    Args:
        name: A name that stays the same over runs and restarts, for instance its partition: order,
            sampling and randomness go by it, never by the node's number.
        num_examples: Examples that it trains on; 0 where it does not tell: it then counts as an
            average client.
        label_counts: `(classes,)` its labels of each class; None where it withholds them. They may
            be grouped (fewer classes) or noisy; every reply tells their sum all the
            same, as `num-examples`.
        device_class: Devices of one class learn their times from each other.
        strategies: What it can do; whatever is asked where None.
        round_seconds: Strategies and the seconds that a round's training takes, where measured;
            the rest is learned.
        uplink_bytes_per_second: Rate at which it sends.
        downlink_bytes_per_second: Rate at which it receives.
        active_watts: Power that training takes; 0 where it is not known.

    Raises:
        ValueError: If a text is empty or too long, or a number is out of range.
    """

    name: str
    num_examples: int = 0
    label_counts: tuple[float, ...] | None = None
    device_class: str = "device"
    strategies: tuple[Strategy, ...] | None = None
    round_seconds: tuple[tuple[Strategy, float], ...] = ()
    uplink_bytes_per_second: float = math.inf
    downlink_bytes_per_second: float = math.inf
    active_watts: float = 0.0

    def __post_init__(self) -> None:
        if self.strategies is not None:
            object.__setattr__(self, "strategies", tuple(map(parse_strategy, self.strategies)))
        timed = tuple((parse_strategy(s), seconds) for s, seconds in self.round_seconds)
        object.__setattr__(self, "round_seconds", timed)
        for name in ("name", "device_class"):
            text = getattr(self, name)
            if not 0 < len(text) <= _MOST_NAME_CHARS or not text.isprintable():
                _refuse(f"{name} is 1 to {_MOST_NAME_CHARS} printable characters", text[:80])
        if not 0 <= self.num_examples <= _MOST_EXAMPLES:
            _refuse(f"0 <= num_examples <= {_MOST_EXAMPLES}", self.num_examples)
        if self.label_counts is not None and not self.label_counts:
            _refuse("label_counts holds a class, or is None", self.label_counts)
        if self.strategies is not None and not self.strategies:
            _refuse("strategies holds one, or is None", self.strategies)
        self._check_numbers()

    def _check_numbers(self) -> None:
        if not all(abs(count) <= _MOST for count in self.label_counts or ()):
            _refuse(f"-{_MOST:g} <= label_counts <= {_MOST:g}", self.label_counts)
        for strategy, seconds in self.round_seconds:
            if not _LEAST_SECONDS <= seconds <= _MOST or strategy.is_skip:
                _refuse(
                    f"{_LEAST_SECONDS:g} <= round_seconds <= {_MOST:g} of {strategy}, which trains",
                    seconds,
                )
        for name in _RATES.values():
            rate = getattr(self, name)
            if not (_LEAST_RATE <= rate <= _MOST or rate == math.inf):
                _refuse(f"{_LEAST_RATE:g} <= {name} <= {_MOST:g}, or inf", rate)
        if not 0 <= self.active_watts <= _MOST:
            _refuse(f"0 <= active_watts <= {_MOST:g}", self.active_watts)

    def to_record(self) -> Mapping[str, int | float | str | list[str] | list[float]]:
        """The values of its `ConfigRecord`; what is not told is not there.

        Example:
            >>> profile = ClientProfile("3", num_examples=80, label_counts=(50.0, 30.0))
            >>> ClientProfile.from_record(profile.to_record()) == profile
            True
        """
        record: dict[str, int | float | str | list[str] | list[float]] = {
            "version": VERSION,
            "name": self.name,
            "num-examples": self.num_examples,
            "device-class": self.device_class,
            "active-watts": float(self.active_watts),
        }
        if self.label_counts is not None:
            record["label-counts"] = [float(count) for count in self.label_counts]
        if self.strategies is not None:
            record["strategies"] = [str(strategy) for strategy in self.strategies]
        if self.round_seconds:
            record["timed-strategies"] = [str(strategy) for strategy, _ in self.round_seconds]
            record["round-seconds"] = [float(seconds) for _, seconds in self.round_seconds]
        for key, name in _RATES.items():
            if getattr(self, name) < math.inf:
                record[key] = float(getattr(self, name))
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> ClientProfile:
        """Reads a record; whatever it says is checked.

        Raises:
            WireError: If it is none, or of another version.
        """
        fields = Fields(record, "a client's profile")
        fields.version(VERSION)
        counts = fields.numbers("label-counts", _MOST_CLASSES)
        timed = fields.strategies("timed-strategies", MOST_STRATEGIES)
        seconds = fields.numbers("round-seconds", MOST_STRATEGIES)
        if len(timed) != len(seconds):
            raise refuse(fields.what, "round-seconds are one a timed strategy", len(seconds))
        rates = {name: fields.number(key, default=math.inf) for key, name in _RATES.items()}
        return fields.build(
            lambda: cls(
                name=fields.text("name", _MOST_NAME_CHARS),
                num_examples=fields.whole("num-examples", _MOST_EXAMPLES, default=0),
                label_counts=counts or None,
                device_class=fields.text("device-class", _MOST_NAME_CHARS, default="device"),
                strategies=fields.strategies("strategies", MOST_STRATEGIES) or None,
                round_seconds=tuple(zip(timed, seconds, strict=True)),
                active_watts=fields.number("active-watts", default=0.0),
                **rates,
            )
        )

    def to_properties(self) -> dict[str, str]:
        """What a legacy client's `get_properties` gives: the record as JSON.

        Example:
            >>> list(ClientProfile("3").to_properties())
            ['fedhq']
        """
        return {RECORD: as_text(self.to_record())}

    @classmethod
    def of_device(
        cls,
        name: str,
        device: DeviceProfile,
        steps: StepProfile,
        menu: Sequence[Strategy | str],
        *,
        local_steps: int,
        num_examples: int = 0,
        label_counts: tuple[float, ...] | None = None,
    ) -> ClientProfile:
        """A profile from what `fedhq profile` measured.

        Args:
            name: As above.
            device: The client's device; what its memory does not hold is left out.
            steps: Step times and memory of at least the menu's strategies.
            menu: What the federation offers.
            local_steps: Training steps in a round.
            num_examples: As above.
            label_counts: As above.

        Raises:
            ValueError: If a strategy was not measured, or none fits the device.

        Example:
            >>> steps = StepProfile("toy", 32, parse_menu(["skip", "fp32"]),
            ...                     np.array([0, 0.01]), np.array([0, 1e6]), "by hand")
            >>> phone = DeviceProfile("phone", 2.0, 1e6, 4e6)
            >>> profile = ClientProfile.of_device("3", phone, steps, ["skip", "fp32"],
            ...                                   local_steps=100)
            >>> [(str(strategy), seconds) for strategy, seconds in profile.round_seconds]
            [('fp32', 2.0)]
        """
        strategies = parse_menu(menu)
        tables = analyse_hardware(
            [device], [local_steps], steps.select(strategies), np.zeros(len(strategies)), 0
        )
        fits = [s for s, allowed in zip(strategies, tables.allowed[0], strict=True) if allowed]
        if all(s.is_skip for s in fits):
            raise ValueError(
                f"`memory_bytes >= {tables.memory_bytes.max():.3g}` must hold for a strategy that "
                f"trains, but {name!r} has {device.memory_bytes:.3g}. Take smaller batches."
            )
        seconds = dict(zip(strategies, tables.seconds[0].tolist(), strict=True))
        return cls(
            name=name,
            num_examples=num_examples,
            label_counts=label_counts,
            device_class=device.device_class,
            strategies=tuple(fits),
            round_seconds=tuple((s, seconds[s]) for s in fits if not s.is_skip),
            uplink_bytes_per_second=device.uplink_bytes_per_second,
            downlink_bytes_per_second=device.downlink_bytes_per_second,
            active_watts=device.active_watts,
        )

    @classmethod
    def measure(
        cls,
        name: str,
        model: nn.Module,
        data: object,
        menu: Sequence[Strategy | str],
        *,
        labels: Iterable[int] | None = None,
        num_classes: int | None = None,
        batch_size: int | None = None,
        local_steps: int | None = None,
        memory_bytes: float | None = None,
        device: str = "cpu",
        device_class: str = "device",
        samples: int = 3,
    ) -> ClientProfile:
        """Measures a few training steps of every strategy on this device, and asks for its memory.

        Steps are those of `fedhq profile`: cross-entropy, SGD. The model stays as it is.

        Args:
            name: As above.
            model: The network that the federation trains.
            data: A `DataLoader`, or whatever `as_dataset` takes.
            menu: What the federation offers.
            labels: The client's labels, counted for the profile; None withholds them.
            num_classes: Classes of `labels`, the same at all clients.
            batch_size: Examples a step; the loader's, else 32, where None.
            local_steps: Training steps in a round; one pass over the data where None.
            memory_bytes: What a step may take; what is free now where None.
            device: Where steps are timed, as torch names it.
            device_class: As above.
            samples: Samples of ten steps for each strategy.

        Raises:
            ValueError: If the data cannot be read, labels come without their classes, or no
                strategy fits the memory.
        """
        from ..client.measuring import count_labels, free_bytes, measure_on

        memory = memory_bytes or free_bytes(device)
        steps, num_examples = measure_on(model, data, menu, batch_size, samples, device)
        return cls.of_device(
            name,
            DeviceProfile(device_class, 1.0, math.inf, math.inf, memory),
            steps,
            menu,
            local_steps=local_steps or -(-num_examples // steps.batch_size),
            num_examples=num_examples,
            label_counts=None if labels is None else count_labels(labels, num_classes),
        )


def _refuse(rule: str, got: object) -> None:
    raise ValueError(f"`{rule}` must hold for a client's profile, but got {got!r:.200}.")
