"""A client's profile from what its SuperNode was started with: `--node-config 'key=value ...'`.

key                         what it says
partition-id                the client's name, where there is no client-name
client-name                 a name that stays the same
num-examples                examples that it trains on
label-counts                its labels of each class, as in "120,0,33"
device-class                devices of one class learn their times from each other
strategies                  what it can do, as in "skip,ptq-w2a2"; all that is asked without it
uplink-bytes-per-second     rate at which it sends
downlink-bytes-per-second   rate at which it receives
active-watts                power that training takes
device-profile              file of `fedhq profile --device`: class, rates, watts, memory
step-profile                file of `fedhq profile`: with device-profile and local-steps it gives
times, and leaves out what memory does not hold
local-steps                 training steps in a round
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....allocator.device import DeviceProfile
from ....allocator.hardware import StepProfile
from ....allocator.strategy import Strategy, parse_menu
from ..messages.profile import ClientProfile

if TYPE_CHECKING:
    from flwr.app import Context

_NUMBERS = {
    "uplink-bytes-per-second": "uplink_bytes_per_second",
    "downlink-bytes-per-second": "downlink_bytes_per_second",
    "active-watts": "active_watts",
}


def profile_of_node(context: Context) -> ClientProfile:
    """The profile that a node's configuration tells; `node_config`'s docstring has the keys.

    Args:
        context: Of the client; its `node_config` counts.

    Raises:
        ValueError: If it names no client, a value is none, or a file is no profile.
    """
    config = context.node_config
    profile = _of_files(config, _name(config))
    changes: dict[str, Any] = {
        field: _number(config, key) for key, field in _NUMBERS.items() if key in config
    }
    if "num-examples" in config:
        changes["num_examples"] = int(_number(config, "num-examples"))
    if "label-counts" in config:
        changes["label_counts"] = _counts(str(config["label-counts"]))
    if "device-class" in config:
        changes["device_class"] = str(config["device-class"])
    if (strategies := _strategies(config)) is not None and profile.strategies is None:
        changes["strategies"] = strategies
    return replace(profile, **changes)


def _name(config: Mapping[str, object]) -> str:
    for key in ("client-name", "partition-id"):
        if key in config:
            return str(config[key])
    raise ValueError(
        "`partition-id` or `client-name` must be in the node's configuration, but it has "
        f"{sorted(config)}. Start the SuperNode with `--node-config 'partition-id=3'`, or give "
        "`register_profile` a `describe`."
    )


def _of_files(config: Mapping[str, object], name: str) -> ClientProfile:
    """What files say, or a profile that only has a name."""
    if "device-profile" not in config:
        return ClientProfile(name)
    device = DeviceProfile.load(Path(str(config["device-profile"])))
    if "step-profile" not in config:
        return ClientProfile(
            name,
            device_class=device.device_class,
            uplink_bytes_per_second=device.uplink_bytes_per_second,
            downlink_bytes_per_second=device.downlink_bytes_per_second,
            active_watts=device.active_watts,
        )
    steps = StepProfile.load(Path(str(config["step-profile"])))
    if "local-steps" not in config:
        raise ValueError("`local-steps` must stand beside `step-profile`: a round takes so many.")
    local_steps = int(_number(config, "local-steps"))
    menu = _strategies(config) or steps.strategies
    return ClientProfile.of_device(name, device, steps, menu, local_steps=local_steps)


def _strategies(config: Mapping[str, object]) -> tuple[Strategy, ...] | None:
    text = config.get("strategies")
    return None if text is None else parse_menu(part.strip() for part in str(text).split(","))


def _number(config: Mapping[str, object], key: str) -> float:
    value = config[key]
    try:
        return float(str(value))
    except ValueError:
        raise ValueError(f"`{key}` must be a number, but the node says {value!r}.") from None


def _counts(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f'`label-counts` must be numbers as in "120,0,33", but the node says {text!r}.'
        ) from None
