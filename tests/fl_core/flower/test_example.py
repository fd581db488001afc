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
from torch import nn

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


def outcome(name: str, folder: Path) -> tuple[nn.Module, ModuleType, int]:
    """The trained model, the app's task, and the bytes that clients sent."""
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
        return model, task, sum(node.sent_bytes for node in nodes.values())


@pytest.mark.slow
@pytest.mark.long
def test_the_example_is_the_plain_app_with_an_eighth_of_the_bytes_and_a_model_to_ship(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, task, plain_bytes = outcome("flower_plain", tmp_path)
    assert task.accuracy(plain) > 0.9
    model, task, own_bytes = outcome("flower", tmp_path)
    shipped = task.ship(model)
    assert all(len(row.unique()) <= 4 for row in shipped[0].weight)  # two bits
    in_float, deployed = task.accuracy(model), task.accuracy(shipped)
    assert capsys.readouterr().out.endswith(f"accuracy {in_float:.3f}, deployed {deployed:.3f}\n")
    assert in_float > 0.9
    assert deployed > 0.85
    assert plain_bytes > 7 * own_bytes


def test_the_server_deploys_with_digits_that_neither_clients_nor_the_test_have() -> None:
    with modules_of("flower") as (_, _, task):
        images = [task.load_test()[0]]
        images += [task.load_client(k, CLIENTS).dataset.tensors[0] for k in range(CLIENTS)]
        held, everything = torch.cat(images), task._digits()[0]
        assert len(held) == len(everything) - task.NUM_SPARE
        spare = {image.numpy().tobytes() for image in everything[-task.NUM_SPARE :]}
        assert not spare & {image.numpy().tobytes() for image in held}
