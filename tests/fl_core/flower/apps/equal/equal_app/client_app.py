"""A client that trains as the in-process trainer does."""

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhq.fl_core.engine.local import LocalTrainer
from fedhq.fl_core.engine.work import Work
from fedhq.fl_core.flower import ClientProfile, decision_of, quant_mod, register_profile
from fedhq.fl_core.schedule import learning_rate
from fedhq.fl_core.weights import read_weights

from .task import build

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
app = ClientApp(mods=[quant_mod])


def describe(context: Context) -> ClientProfile:
    return ClientProfile(str(context.node_config["partition-id"]))


register_profile(app, describe)


@app.train()
def train(message: Message, context: Context) -> Message:
    federation, decision = build(), decision_of(message)
    data = federation.clients[int(context.node_config["partition-id"])]
    received = message.content["arrays"]
    weights = {name: np.array(array.numpy()) for name, array in received.items()}
    settings = federation.training
    rate = learning_rate(settings.learning_rate, decision.round_number, settings.rounds)
    work = Work(decision.round_number, decision.client, decision.strategy, rate)
    trainer = LocalTrainer(federation.model, settings, federation.quantization)
    trainer.train(weights, data, decision.strategy, rate, work.rng(decision.seed))
    # The trained weights themselves: adding the update to the old ones would round once more.
    trained = read_weights(trainer._model(decision.strategy))
    arrays = ArrayRecord({name: Array(trained[name]) for name in received})
    metrics = MetricRecord({"num-examples": len(data)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
