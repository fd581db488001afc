"""The task in Flower: a client app and a server app, simulated on Ray by two actors."""

# mypy: ignore-errors
# ruff: noqa: D103
# isort: off
import task

from flwr.app import ArrayRecord, MetricRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message, context):
    client = context.node_config["partition-id"]
    model = task.build_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    task.train_(model, client, message.content["config"]["server-round"])
    metrics = MetricRecord({"num-examples": task.load().sizes[client]})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


def on_round(number, arrays):
    task.begin() if number == 0 else task.report(number)


@server_app.main()
def main(grid, context):
    model, num_clients = task.build_model(), len(task.load().sizes)
    # Without `min_train_nodes` the first round trains those that happen to be there by then.
    strategy = FedAvg(
        fraction_evaluate=0.0, min_train_nodes=num_clients, min_available_nodes=num_clients
    )
    result = strategy.start(
        grid,
        ArrayRecord(model.state_dict()),
        num_rounds=task.load().rounds,
        evaluate_fn=on_round,
    )
    model.load_state_dict(result.arrays.to_torch_state_dict())
    task.finish(model)


if __name__ == "__main__":
    run_simulation(
        server_app,
        client_app,
        num_supernodes=len(task.load().sizes),
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": 2, "include_dashboard": False},
        },
    )
