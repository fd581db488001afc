"""The task in BlazeFL: a trainer whose two threads share the process, and the server's loop."""

# mypy: ignore-errors
# ruff: noqa: D101, D102, D103
# isort: off
import task

import threading

from blazefl.contrib import FedAvgBaseServerHandler
from blazefl.core import ThreadPoolClientTrainer, deserialize_model, serialize_model


class Trainer(ThreadPoolClientTrainer):
    def __init__(self):
        self.num_parallels = 2
        self.device = "cpu"
        self.cache = []
        self.stop_event = threading.Event()

    def worker(self, cid, device, payload, stop_event):
        number, weights = payload
        model = task.build_model()
        deserialize_model(model, weights)
        task.train_(model, cid, number)
        return serialize_model(model)

    def uplink_package(self):
        package, self.cache = self.cache, []
        return package


def main():
    held, model, trainer = task.load(), task.build_model(), Trainer()
    task.begin()
    for number in range(1, held.rounds + 1):
        trainer.local_process((number, serialize_model(model)), list(range(len(held.sizes))))
        packages = trainer.uplink_package()
        deserialize_model(model, FedAvgBaseServerHandler.aggregate(packages, held.sizes))
        task.report(number)
    task.finish(model)


if __name__ == "__main__":
    main()
