"""fedhq in Flower: who does what each round is decided, and updates travel quantized.

On the server `AllocatorStrategy(inner, allocator)` goes around any strategy of `flwr.serverapp`;
on the client `quant_mod` and `register_profile(app)` go into the `ClientApp`, and
`allocated(model, message)` around its training loop:

    # server
    from fedhq.fl_core.flower import AllocatorStrategy, HybridAllocator

    allocator = HybridAllocator.open(["skip", "ptq-w2a2", "qat-w2a2"], "qat-w2a2")
    strategy = AllocatorStrategy(FedAvg(fraction_train=0.5), allocator)
    strategy.start(grid, initial_arrays, num_rounds=3)

    # client
    from fedhq.fl_core.flower import allocated, quant_mod, register_profile

    app = register_profile(ClientApp(mods=[quant_mod]))

    @app.train()
    def train(message, context):
        ...
        with allocated(model, message):
            train_fn(model, ...)

Names are loaded when they are asked for; all but `ClientProfile`, `Decision` and
`HybridAllocator`, which is the allocator's own, need flwr.

    >>> from fedhq.fl_core.flower import ClientProfile
    >>> ClientProfile("site-3", num_examples=500).device_class
    'device'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...allocator.controller import HybridAllocator
    from .client.asked import register_profile
    from .client.mod import quant_mod
    from .client.training import allocated, decision_of, train_with_allocation
    from .legacy.strategy import LegacyAllocatorStrategy
    from .messages.orders import Decision
    from .messages.profile import ClientProfile
    from .server.own import ServerStrategy
    from .server.strategy import AllocatorStrategy

__all__ = [
    "AllocatorStrategy",
    "ClientProfile",
    "Decision",
    "HybridAllocator",
    "LegacyAllocatorStrategy",
    "ServerStrategy",
    "allocated",
    "decision_of",
    "quant_mod",
    "register_profile",
    "train_with_allocation",
]

_HOMES = {
    "AllocatorStrategy": ".server.strategy",
    "ClientProfile": ".messages.profile",
    "Decision": ".messages.orders",
    "HybridAllocator": "...allocator.controller",
    "LegacyAllocatorStrategy": ".legacy.strategy",
    "ServerStrategy": ".server.own",
    "allocated": ".client.training",
    "decision_of": ".client.training",
    "quant_mod": ".client.mod",
    "register_profile": ".client.asked",
    "train_with_allocation": ".client.training",
}
_WITHOUT_FLOWER = ("ClientProfile", "Decision", "HybridAllocator")


def __getattr__(name: str) -> Any:
    """A public name, from the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _WITHOUT_FLOWER:
        from .versions import require_flower

        require_flower()
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
