"""Messages and contexts as a client gets them, without a server."""

from dataclasses import replace

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.flower.client.mod import quant_mod
from fedhq.fl_core.flower.client.training import decision_of
from fedhq.fl_core.flower.messages.orders import Decision
from fedhq.fl_core.flower.messages.packing import coded_names, pack_model
from fedhq.fl_core.settings import QuantizationSettings


def context(**node_config):
    return Context(run_id=1, node_id=3, node_config=node_config, state=RecordDict(), run_config={})


def network():
    """A network with running statistics and a counter."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


def arrays_of(model):
    return ArrayRecord(model.state_dict())


def decision_for(arrays, strategy="ptq-w2a2", **changes):
    decision = Decision(
        strategy=Strategy.parse(strategy),
        deployed=Strategy.parse("qat-w2a2"),
        round_number=1,
        client=5,
        seed=11,
        arrays_key="arrays",
        downlink_bits=32,
        names=coded_names(arrays),
        quantization=QuantizationSettings(),
    )
    return replace(decision, **changes)


def order(arrays, decision=None, kind="train", **config):
    """A message of the server; without a decision that of a server without fedhq."""
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"lr": 0.1, **config})})
    if decision is not None:
        about = decision.downlink_bits, decision.round_number, decision.seed
        content["arrays"] = pack_model(arrays, decision.names, *about)
        content["fedhq"] = ConfigRecord(dict(decision.to_record()))
    return Message(content, dst_node_id=3, message_type=kind)


def answer(message, arrays, num_examples=80):
    metrics = MetricRecord({"num-examples": num_examples, "train_loss": 0.5})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def moved(arrays, seed=1, step=0.01):
    """What training might make of a model."""
    rng, made = np.random.default_rng(seed), {}
    for name, array in arrays.items():
        values = array.numpy()
        if values.dtype.kind == "f":
            change = step * rng.normal(size=values.shape)
            values = np.asarray(values + change, values.dtype)
        made[name] = Array(values)
    return ArrayRecord(made)


def pattern(num=64, seed=0):
    """Images of three classes, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(num, 1, 8, 8, generator=generator)
    labels = torch.arange(num) % 3
    images[torch.arange(num), 0, labels * 2, :] += 1
    return images, labels


def serve(message, reply, ctxt=None, mods=(quant_mod,)):
    """Runs an app of mods whose train function notes what it sees and gives a reply."""
    app, seen = ClientApp(mods=[*mods]), []

    def handle(received, _):
        seen.append((received.content, decision_of(received)))
        return reply(received)

    for register in (app.train(), app.evaluate(), app.query()):
        register(handle)
    out = app(message, ctxt if ctxt is not None else context())
    return out, *seen[0]


def give(message):
    return answer(message, moved(message.content["arrays"]))


def flat(arrays):
    return np.concatenate([array.numpy().ravel() for array in arrays.values()])
