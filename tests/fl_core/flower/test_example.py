"""The example app and the plain one that it came from, run in this process."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch
from flower_fleet import FakeGrid
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedhq.models import Recipe, deploy

ROOT = Path(__file__).parents[3]
CLIENTS = 4


class AppNode:
    """A node whose client is an app."""

    silent = False

    def __init__(self, app: ClientApp, place: int, config: dict[str, object]) -> None:
        self._app = app
        self.sent_bytes = 0
        self._context = Context(1, place, {"partition-id": place}, RecordDict(), config)

    def answer(self, message: Message) -> Message:
        reply = self._app(message, self._context)
        for arrays in reply.content.array_records.values():
            self.sent_bytes += sum(array.numpy().nbytes for array in arrays.values())
        return reply


@contextmanager
def modules_of(name: str) -> Iterator[tuple[ModuleType, ModuleType, ModuleType]]:
    """Server, client and task of an example; both are packages of the same name."""
    sys.path.insert(0, str(ROOT / "examples" / name))
    try:
        yield tuple(
            importlib.import_module(f"digits_app.{m}") for m in ("server_app", "client_app", "task")
        )
    finally:
        sys.path.pop(0)
        for loaded in [m for m in sys.modules if m.partition(".")[0] == "digits_app"]:
            del sys.modules[loaded]


def outcome(name: str, folder: Path) -> tuple[float, float, int]:
    """Accuracy of the float model and of the one that is shipped at two bits; bytes sent."""
    with modules_of(name) as (server, client, task):
        config = {
            "num-server-rounds": 10,
            "num-clients": CLIENTS,
            "local-epochs": 2,
            "learning-rate": 0.1,
            "model-file": str(folder / f"{name}.pt"),
        }
        nodes = {100 - k: AppNode(client.app, k, config) for k in range(CLIENTS)}
        server.app(FakeGrid(nodes), Context(1, 0, {}, RecordDict(), config))
        model = task.build_model()
        model.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
        images, _ = next(iter(task.load_client(0, CLIENTS)))
        shipped = deploy(model, Recipe(2, 2), [images])
        sent = sum(node.sent_bytes for node in nodes.values())
        return task.accuracy(model), task.accuracy(shipped), sent


@pytest.mark.slow
def test_the_example_is_the_plain_app_with_an_eighth_of_the_bytes_and_a_model_to_ship(
    tmp_path: Path,
) -> None:
    plain_float, _, plain_bytes = outcome("flower_plain", tmp_path)
    own_float, shipped, own_bytes = outcome("flower", tmp_path)
    assert plain_float > 0.9
    assert own_float > 0.9
    assert shipped > 0.85
    assert plain_bytes > 7 * own_bytes
