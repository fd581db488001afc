"""What fedhq costs a round of Flower, and what it saves: `python -m fedhq.studies.bench_flower`.

Ten nodes train a network of a million parameters. Bare Flower (FedAvg) and Flower with fedhq
(`AllocatorStrategy(FedAvg)`, `quant_mod`, updates at 4 bits) run in turn, as processes of their
own; both train in floats, so that what is compared is the allocator, the codec and the checks, and
not QAT. Twice: by direct call, all clients one after the other in the server's process, and in
Flower's simulation on Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecordValues, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Strategy
from torch import nn

from ..allocator import HybridAllocator
from ..fl_core.flower import AllocatorStrategy, allocated, quant_mod, register_profile
from .benchmark import machine_line
from .writing import write_at_once

NODES = 10
BARE, OURS = "bare Flower", "Flower with fedhq"
DIRECT, RAY = "direct call", "Ray simulation"
_STRATEGY = "ptq-w2a2-u4"
_BATCH = 64
_SILENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}

_HOW_TO_READ = """Seconds of a round are the least over all rounds of all runs but each run's
first: a busy machine only ever adds time; medians stand beside them. By direct call they are
seconds of the CPU, which other processes hardly change; on Ray they are the clock's. Both sides
train the same steps in floats, on one thread, in turn.

Own work is what fedhq adds where nobody trains, in seconds; it does not depend on how long clients
train, so its share of a round with training says what fedhq costs there. The difference of two
rounds with training says the same, and what the machine did to either meanwhile: with a load above
the number of cores it is noise on Ray, where it came out of either sign. A round without
training is Flower's own work alone, and no round that anybody runs. Bytes are `count_bytes` of
Flower, of all records of a message, with Flower's own frame."""


def network() -> nn.Module:
    """A network of 1,002,570 parameters."""
    return nn.Sequential(
        nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 192), nn.ReLU(), nn.Linear(192, 10)
    )


def make_app(arm: str, steps: int) -> ClientApp:
    """A client that trains some steps on its own numbers."""
    app = ClientApp(mods=[quant_mod] if arm == OURS else [])
    if arm == OURS:
        register_profile(app)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())  # type: ignore[union-attr]
        with allocated(model, message):
            _train(model, int(context.node_config["partition-id"]), steps)
        content = RecordDict(
            {
                "arrays": ArrayRecord(model.state_dict()),
                "metrics": MetricRecord({"num-examples": _BATCH * max(steps, 1)}),
            }
        )
        return Message(content, reply_to=message)

    return app


def _train(model: nn.Module, seed: int, steps: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(_BATCH, 784, generator=generator)
    labels = torch.arange(_BATCH) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def make_strategy(arm: str) -> Strategy:
    """FedAvg over all nodes, without evaluation."""
    inner = FedAvg(fraction_evaluate=0.0, min_train_nodes=NODES, min_available_nodes=NODES)
    if arm == BARE:
        return inner
    return AllocatorStrategy(inner, HybridAllocator.open(["skip", _STRATEGY], _STRATEGY))


class DirectGrid(Grid):
    """Calls the client apps in this process, one after the other; counts bytes.

    Args:
        app: Of all clients.
    """

    def __init__(self, app: ClientApp) -> None:
        self._app = app
        self._contexts = {
            node: Context(1, node, {"partition-id": node}, RecordDict(), {})
            for node in range(NODES)
        }
        self._replies: dict[str, Message] = {}
        self.sent_bytes = self.received_bytes = 0

    def set_run(self, run: Any) -> None:
        """There is none."""

    @property
    def run(self) -> Any:
        """There is none."""
        return None

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Of no use here: `Message` makes them."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """All nodes."""
        return [*self._contexts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Has the clients answer."""
        names = []
        for message in messages:
            name = f"{len(self._replies)}-{time.monotonic_ns()}"
            message.metadata.__dict__["_message_id"] = name
            reply = self._app(message, self._contexts[message.metadata.dst_node_id])
            if message.metadata.message_type == "train":
                self.sent_bytes = _bytes(message)
                self.received_bytes = _bytes(reply)
            self._replies[name] = reply
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """What they answered."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Both."""
        return self.pull_messages(self.push_messages(messages))


def _bytes(message: Message) -> int:
    """Of all its records."""
    return sum(record.count_bytes() for record in message.content.values())


def measure(arm: str, where: str, steps: int, rounds: int) -> dict[str, Any]:
    """Runs a federation in this process.

    Returns:
        `seconds` of every round but the first, and by direct call the bytes of a message.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arrays, strategy = ArrayRecord(network().state_dict()), make_strategy(arm)
    marks: list[float] = []

    clock = time.process_time if where == DIRECT else time.perf_counter

    def mark(number: int, arrays: ArrayRecord) -> None:
        marks.append(clock())

    def start(grid: Grid) -> None:
        strategy.start(grid, arrays, num_rounds=rounds + 1, evaluate_fn=mark)

    app = make_app(arm, steps)
    found: dict[str, Any] = {}
    if where == DIRECT:
        from flwr.supercore.task_identity import TaskIdentity

        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
        grid = DirectGrid(app)
        start(grid)
        found = {"downlink": grid.sent_bytes, "uplink": grid.received_bytes}
    else:
        _simulate(app, start)
    found["seconds"] = [after - before for before, after in pairwise(marks[1:])]
    return found


def _simulate(app: ClientApp, start: Any) -> None:
    from flwr.simulation import run_simulation

    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        start(grid)

    backend: dict[str, dict[str, ConfigRecordValues]] = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"num_cpus": os.cpu_count() or 1, "include_dashboard": False},
    }
    run_simulation(server, app, NODES, backend_config=backend)


def table(found: dict[tuple[str, int], dict[str, list[dict[str, Any]]]]) -> Iterator[str]:
    """The lines of both tables."""
    yield "| how | steps of a client | bare Flower, s a round (median) | with fedhq (median) | "
    yield "difference, s | of the round | own work, of the round |\n"
    yield "|---|---:|---:|---:|---:|---:|---:|\n"
    work: dict[str, float] = {}
    for (where, steps), arms in found.items():
        times = {arm: [s for run in runs for s in run["seconds"]] for arm, runs in arms.items()}
        bare, ours = min(times[BARE]), min(times[OURS])
        medians = {arm: statistics.median(seconds) for arm, seconds in times.items()}
        if steps == 0:
            work[where] = ours - bare
        share = f"{work[where] / bare:.1%}" if where in work else ""
        yield (
            f"| {where} | {steps} | {bare:.3f} ({medians[BARE]:.3f}) | "
            f"{ours:.3f} ({medians[OURS]:.3f}) | {ours - bare:.3f} | {(ours - bare) / bare:.1%} | "
            f"{share} |\n"
        )
    runs = next((arms for (where, _), arms in found.items() if where == DIRECT), None)
    if runs is None:
        return
    yield "\n| bytes of a client and round | bare Flower | with fedhq, 4 bits up | ratio |\n"
    yield "|---|---:|---:|---:|\n"
    for way in ("uplink", "downlink"):
        bare, ours = runs[BARE][0][way], runs[OURS][0][way]
        yield f"| {way} | {bare:,} | {ours:,} | {bare / ours:.2f} |\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all and prints or writes the tables.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser(
        prog="python -m fedhq.studies.bench_flower", description=__doc__
    )
    add = parser.add_argument
    add("--steps", type=int, default=100, help="of a client's training (100)")
    add("--rounds", type=int, default=3, help="of a run that count (3)")
    add("--repetitions", type=int, default=1, help="runs of each side (1)")
    add(
        "--only", nargs="+", choices=(DIRECT, RAY), default=(DIRECT, RAY), help="measure only these"
    )
    add("--out", type=Path, metavar="FILE.md", help="write the tables to a file")
    add("--one", nargs=2, metavar=("SIDE", "HOW"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        arm, where = options.one
        print(json.dumps(measure(arm, where, options.steps, options.rounds)))
        return
    found: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    for where in options.only:
        for steps in dict.fromkeys((0, options.steps)):
            arms: dict[str, list[dict[str, Any]]] = {BARE: [], OURS: []}
            for _ in range(options.repetitions):
                for arm, runs in arms.items():
                    runs.append(_apart(arm, where, steps, options.rounds))
            found[where, steps] = arms
    text = f"# Flower\n\n{machine_line()}\n\n{_HOW_TO_READ}\n\n{''.join(table(found))}"
    print(text, end="")
    if options.out is not None:
        write_at_once(options.out, text)


def _apart(arm: str, where: str, steps: int, rounds: int) -> dict[str, Any]:
    """One run in a process of its own."""
    counts = ["--steps", str(steps), "--rounds", str(rounds)]
    command = [sys.executable, "-m", "fedhq.studies.bench_flower", "--one", arm, where, *counts]
    done = subprocess.run(
        command, env={**os.environ, **_SILENT}, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
