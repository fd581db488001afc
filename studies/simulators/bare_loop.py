"""A bare PyTorch loop: processes that stay, weights in shared memory, the largest client first."""

# mypy: ignore-errors
# ruff: noqa: D103
# isort: off
import task

import sys

import torch
import torch.multiprocessing as mp
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def work(jobs, done, weights, results):
    model = task.build_model()
    while True:
        number, client = jobs.get()
        vector_to_parameters(weights.clone(), model.parameters())
        task.train_(model, client, number)
        results[client] = parameters_to_vector(model.parameters()).detach()
        done.put(client)


def main(num_processes):
    sizes = torch.tensor(task.load().sizes)
    model = task.build_model()
    weights = parameters_to_vector(model.parameters()).detach().share_memory_()
    results = torch.zeros(len(sizes), len(weights)).share_memory_()
    fork = mp.get_context("fork")
    jobs, done = fork.SimpleQueue(), fork.SimpleQueue()
    for _ in range(num_processes):
        arguments = jobs, done, weights, results
        fork.Process(target=work, args=arguments, daemon=True).start()
    shares = sizes / sizes.sum()
    largest_first = sizes.argsort(descending=True).tolist()
    task.begin()
    for number in range(1, task.load().rounds + 1):
        for client in largest_first:
            jobs.put((number, client))
        for _ in largest_first:
            done.get()
        weights.copy_(shares @ results)
        task.report(number)
    vector_to_parameters(weights, model.parameters())
    task.finish(model)


if __name__ == "__main__":
    main(int(sys.argv[1]))
