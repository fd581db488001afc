"""What a client does: it trains on its digits, and answers with the model."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhq.fl_core.flower import allocated, quant_mod, register_profile

from .task import build_model, load_client, train_

app = register_profile(ClientApp(mods=[quant_mod]))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains the received model."""
    config = context.run_config
    client = int(context.node_config["partition-id"])
    loader = load_client(client, int(config["num-clients"]))
    model = build_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    with allocated(model, message):
        train_(model, loader, int(config["local-epochs"]), float(config["learning-rate"]))
    metrics = MetricRecord({"num-examples": len(loader.dataset)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)
