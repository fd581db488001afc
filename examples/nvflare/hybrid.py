"""fedhq in NVIDIA FLARE: a controller that plans each round, and a filter at each end of the wire.

The controller tells each client in `FLModel.meta` what to do. What a client sends back is coded by
`QuantizeUpdate` on its way out and read by `ReadUpdate` before the controller sees it.
"""

import secrets
import time

import numpy as np
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.dxo_filter import DXOFilter
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.model_controller import ModelController

from fedhq.allocator import Goal, HardwareTables, HybridAllocator, Outcome, Strategy, WireError
from fedhq.fl_core.rounds.uplink import write_update
from fedhq.fl_core.wire.codec import decode_update

WEIGHTS = "fedhq_weights"  # where the server's filter finds names and shapes

Tensors = dict[str, np.ndarray]
Orders = dict[str, Strategy]
Replies = dict[str, tuple[FLModel, float]]


class HybridController(ModelController):
    """FedAvg whose clients each do what a `HybridAllocator` says.

    Args:
        menu: The strategies on offer.
        deployed: A strategy with the bits that will be deployed.
        shapes: Names and shapes of the model's tensors.
        num_rounds: Rounds.
        deadline_seconds: How long a round waits.
        model_file: Where the trained weights go, as `.npz`.
    """

    def __init__(
        self,
        menu: list[str],
        deployed: str,
        shapes: dict[str, list[int]],
        num_rounds: int,
        deadline_seconds: int,
        model_file: str,
    ) -> None:
        # A client's error must not end the job: each is sent a task of its own.
        super().__init__(persistor_id="", ignore_result_error=True, task_check_period=0.1)
        self.menu, self.deployed, self.shapes = menu, deployed, shapes
        self.num_rounds, self.deadline_seconds = num_rounds, deadline_seconds
        self.model_file = model_file

    def run(self) -> None:
        """All rounds."""
        names = sorted(self.sample_clients())
        goal = Goal(deadline_seconds=self.deadline_seconds)
        allocator = HybridAllocator.open(self.menu, self.deployed, goal=goal)
        self._join(allocator, names)
        weights = {k: np.zeros(shape, np.float32) for k, shape in self.shapes.items()}
        for number in range(1, self.num_rounds + 1):
            plan = allocator.plan(number)
            orders = {name: plan.strategy(i) for i, name in enumerate(names)}
            replies, waited = self._train(number, weights, orders)
            allocator.observe(self._outcomes(names, orders, replies, waited))
            weights = averaged(weights, [reply for reply, _ in replies.values()])
            for name, (reply, seconds) in sorted(replies.items()):
                about = f"{orders[name]} took {seconds:.1f} s and {reply.meta['bytes']} bytes"
                self.info(f"fedhq round {number}: {name} {about}")
        np.savez(self.model_file, **weights)

    def _join(self, allocator: HybridAllocator, names: list[str]) -> None:
        """Asks every client for its profile; its times are learned."""
        question = FLModel(params={}, meta={"profile": True})
        told = {r.meta["client_name"]: r.meta for r in self.send_model_and_wait(data=question)}
        num_classes = max(len(meta["label_counts"]) for meta in told.values())
        silent = {"num_examples": 0, "label_counts": [float("nan")] * num_classes, "cannot": []}
        profiles = [told.get(name, silent) for name in names]
        numbers = allocator.join(
            HardwareTables.unknown(allocator.menu, len(names)),
            num_examples=[p["num_examples"] for p in profiles],
            label_counts=[p["label_counts"] for p in profiles],
        )
        for client, profile in zip(numbers, profiles, strict=True):
            for strategy in profile["cannot"]:
                allocator.forbid(client, strategy)

    def _train(self, number: int, weights: Tensors, orders: Orders) -> tuple[Replies, float]:
        """One round: the replies that came in time, and how long it was waited for them."""
        self.fl_ctx.set_prop(WEIGHTS, weights, private=True, sticky=True)
        replies: Replies = {}
        start = time.monotonic()

        def keep(reply: FLModel) -> None:
            replies[reply.meta["client_name"]] = reply, time.monotonic() - start

        for name, strategy in orders.items():
            if not strategy.is_skip:
                order = {"strategy": str(strategy)}
                model = FLModel(params=weights, current_round=number, meta=order)
                self.send_model(
                    targets=[name], data=model, timeout=self.deadline_seconds, callback=keep
                )
        while self.get_num_standing_tasks() and not self.abort_signal.triggered:
            time.sleep(0.05)
        return replies, time.monotonic() - start

    def _outcomes(
        self, names: list[str], orders: Orders, replies: Replies, waited: float
    ) -> list[Outcome]:
        """Who failed early says nothing of its speed; who was waited for is known to be slow."""
        missing = waited if waited >= self.deadline_seconds else None
        seconds = {name: after for name, (_, after) in replies.items()}
        return [
            Outcome(i, orders[name], seconds.get(name, missing), name in replies)
            for i, name in enumerate(names)
            if not orders[name].is_skip
        ]


def averaged(weights: Tensors, replies: list[FLModel]) -> Tensors:
    """FedAvg of the updates; the old weights if nobody answered."""
    total = sum(reply.meta["num_examples"] for reply in replies)
    return {
        k: w + sum(r.params[k] * np.float32(r.meta["num_examples"] / total) for r in replies)
        for k, w in weights.items()
    }


class QuantizeUpdate(DXOFilter):
    """On the client, task results: an update becomes bytes at its strategy's wire bits."""

    def __init__(self) -> None:
        super().__init__([DataKind.WEIGHT_DIFF], None)
        self.residual: np.ndarray | None = None  # what rounding still owes
        self.seed = secrets.randbits(63)  # of this client alone: all round independently

    def process_dxo(self, dxo: DXO, shareable, fl_ctx) -> DXO:
        """Codes the tensors; they keep their order."""
        update = {k: np.asarray(v, np.float32) for k, v in dxo.data.items()}
        payload, self.residual = write_update(
            update,
            self.residual,
            wire_bits=Strategy.parse(dxo.meta["strategy"]).wire_bits,
            round_number=dxo.meta["round"],
            client=0,  # FLARE knows who sent it
            num_examples=dxo.meta["num_examples"],
            seed=self.seed,
        )
        dxo.data, dxo.meta["bytes"] = {"payload": payload}, len(payload)
        return dxo


class ReadUpdate(DXOFilter):
    """On the server, task results: bytes become an update again, checked against the model."""

    def __init__(self) -> None:
        super().__init__([DataKind.WEIGHT_DIFF], None)

    def process_dxo(self, dxo: DXO, shareable, fl_ctx) -> DXO:
        """Refuses, by a `WireError`, whatever is no whole update of this model."""
        update = decode_update(dxo.data["payload"], fl_ctx.get_prop(WEIGHTS))
        if not update.num_examples:
            raise WireError("`num_examples > 0` must hold for an update, but it is of none.")
        dxo.data, dxo.meta["num_examples"] = dict(update.tensors), update.num_examples
        return dxo
