"""Eight rounds, whatever clients do."""

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fedhq.allocator import HybridAllocator
from fedhq.fl_core.flower import AllocatorStrategy

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    folder = Path(str(context.run_config["folder"]))
    strategy = AllocatorStrategy(
        FedAvg(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2),
        HybridAllocator.open(["ptq-w4a4", "qat-w4a4"], "qat-w4a4"),
        folder=folder,
        deadline_seconds=float(context.run_config["deadline"]),
        profile_seconds=float(context.run_config["deadline"]),
    )
    first = ArrayRecord({"weights": Array(np.zeros(16, np.float32))})
    result = strategy.start(grid, first, num_rounds=8)
    np.savez(folder / "weights.npz", weights=result.arrays["weights"].numpy())
