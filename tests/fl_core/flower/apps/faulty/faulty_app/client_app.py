"""A client of a linear model that fails, once each way, from the rounds that its node names."""

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from fedhq.fl_core.flower import ClientProfile, quant_mod, register_profile


def fails(message: Message, context: Context, how: str) -> bool:
    """Whether it is time to fail that way; true once, since processes come and go."""
    first = context.node_config.get(how)
    if first is None or int(message.content["config"]["server-round"]) < int(first):
        return False
    mark = Path(str(context.node_config["marks"])) / how
    is_new = not mark.exists()
    mark.touch()
    return is_new


def damage(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Cuts what is sent."""
    reply = call_next(message, context)
    if "config" in message.content and fails(message, context, "malformed"):
        arrays = reply.content["arrays"]
        cut = {name: Array(arrays[name].numpy()[:-3]) for name in arrays}
        reply.content["arrays"] = ArrayRecord(cut)
    return reply


app = ClientApp(mods=[damage, quant_mod])


def describe(context: Context) -> ClientProfile:
    if context.node_config.get("old"):
        raise RuntimeError("an old client tells nothing of itself")
    return ClientProfile(str(context.node_config["name"]), num_examples=20)


register_profile(app, describe)


@app.train()
def train(message: Message, context: Context) -> Message:
    server_round = int(message.content["config"]["server-round"])
    if fails(message, context, "raises"):
        raise RuntimeError("the sensor is broken")
    if fails(message, context, "slow"):
        time.sleep(1.4 * float(context.run_config["deadline"]))
    weights = message.content["arrays"]["weights"].numpy()
    rng = np.random.default_rng(server_round)
    inputs = rng.normal(size=(20, len(weights))).astype(np.float32)
    error = inputs @ weights - inputs @ np.arange(len(weights), dtype=np.float32)
    trained = weights - np.float32(0.02) * (inputs.T @ error)
    if fails(message, context, "nans"):
        trained[0] = np.nan
    content = {
        "arrays": ArrayRecord({"weights": Array(trained)}),
        "metrics": MetricRecord({"num-examples": 20}),
    }
    return Message(RecordDict(content), reply_to=message)
