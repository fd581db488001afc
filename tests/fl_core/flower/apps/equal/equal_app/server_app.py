"""A server that combines updates as the in-process trainer's does."""

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from fedhq.allocator import HybridAllocator
from fedhq.fl_core.flower import AllocatorStrategy, ServerStrategy
from fedhq.fl_core.weights import read_weights

from .task import CLIENTS, DECIDES, DEPLOYED, MENU, ROUNDS, SEED, build

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    federation = build()
    folder = Path(str(context.run_config["folder"]))
    inner = ServerStrategy(
        federation.server,
        fraction_evaluate=0.0,
        min_train_nodes=CLIENTS,
        min_available_nodes=CLIENTS,
    )
    allocator = HybridAllocator.open(MENU, DEPLOYED, DECIDES)
    strategy = AllocatorStrategy(inner, allocator, folder=folder, seed=SEED)
    first = ArrayRecord({n: Array(v) for n, v in read_weights(federation.model).items()})
    result = strategy.start(grid, first, ROUNDS)
    weights = {name: array.numpy() for name, array in result.arrays.items()}
    np.savez(folder / "weights.npz", **weights)
