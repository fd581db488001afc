"""A client of a linear model that fails in the ways, and at the messages, that its node names.

It counts its own messages to train, in a file, since a process lives for one message only.
"""

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from fedhq.fl_core.flower import ClientProfile, quant_mod, register_profile

POLL_SECONDS = 0.2


def count(context: Context) -> Path:
    """The file that is as long as the client has had messages to train."""
    return Path(str(context.run_config["folder"])) / f"messages-{context.node_config['name']}"


def is_due(context: Context, fault: str) -> bool:
    """Whether the client fails that way at the message that it has."""
    return context.node_config.get(fault) == count(context).stat().st_size


def wait_until_closed(message: Message, context: Context) -> None:
    """Until the server has recorded the round, which it does when it has closed."""
    rounds = Path(str(context.run_config["folder"])) / "rounds.jsonl"
    number = int(message.content["config"]["server-round"])
    while not rounds.exists() or rounds.read_bytes().count(b"\n") < number:
        time.sleep(POLL_SECONDS)


def damage(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Counts, and cuts what is sent."""
    if "config" not in message.content:
        return call_next(message, context)
    with count(context).open("ab") as file:
        file.write(b".")
    reply = call_next(message, context)
    if is_due(context, "malformed"):
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
    if is_due(context, "raises"):
        raise RuntimeError("the sensor is broken")
    if is_due(context, "slow"):
        wait_until_closed(message, context)
    while is_due(context, "hangs"):
        time.sleep(POLL_SECONDS)
    weights = message.content["arrays"]["weights"].numpy()
    rng = np.random.default_rng(int(message.content["config"]["server-round"]))
    inputs = rng.normal(size=(20, len(weights))).astype(np.float32)
    error = inputs @ weights - inputs @ np.arange(len(weights), dtype=np.float32)
    trained = weights - np.float32(0.02) * (inputs.T @ error)
    if is_due(context, "nans"):
        trained[0] = np.nan
    content = {
        "arrays": ArrayRecord({"weights": Array(trained)}),
        "metrics": MetricRecord({"num-examples": 20}),
    }
    return Message(RecordDict(content), reply_to=message)
