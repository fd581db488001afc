"""What the server does: rounds of FedAvg, evaluated on digits of its own."""

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fedhq.fl_core.flower import AllocatorStrategy, HybridAllocator

from .task import accuracy, build_model, ship

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Trains, and says how good the model is."""
    config = context.run_config
    clients = int(config["num-clients"])
    model = build_model()

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model.load_state_dict(arrays.to_torch_state_dict())
        return MetricRecord({"accuracy": accuracy(model), "deployed": accuracy(ship(model))})

    first = ArrayRecord(model.state_dict())
    server = FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    server = AllocatorStrategy(server, HybridAllocator.open(["ptq-w2a2", "qat-w2a2"], "qat-w2a2"))
    result = server.start(grid, first, int(config["num-server-rounds"]), evaluate_fn=evaluate)
    model.load_state_dict(result.arrays.to_torch_state_dict())
    print(f"accuracy {accuracy(model):.3f}, deployed {accuracy(ship(model)):.3f}")
    if config["model-file"]:
        torch.save(model.state_dict(), str(config["model-file"]))
