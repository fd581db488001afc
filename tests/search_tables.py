"""Small searches to test with: a federation that trains in a second, tables from problems."""

import json
from pathlib import Path

from fedhq.allocator import AllocationProblem

PICK_LOSS = {"low": 0.001, "high": 0.3, "log": True}


def device(name: str, slowdown: float, bytes_per_second: float) -> dict:
    return {
        "name": name,
        "share": 1,
        "slowdown": slowdown,
        "uplink_bytes_per_second": bytes_per_second,
        "downlink_bytes_per_second": bytes_per_second,
    }


def tiny(**search) -> dict:
    """Four clients and three rounds of digits."""
    return {
        "menu": ["skip", "ptq-w2a2", "qat-w2a2"],
        "data": {"name": "digits", "num_test": 200, "num_calibration": 50},
        "partition": {"num_clients": 4},
        "fleet": {"classes": [device("fast", 1, 1e6), device("slow", 3, 1e5)]},
        "training": {"rounds": 3},
        "search": {"space": {"allocation.pick_loss": PICK_LOSS}, **search},
    }


def modelled(**search) -> dict:
    """Twenty clients of it, evaluated in the model."""
    table = tiny(evaluate="model", **search)
    return table | {"partition": {"num_clients": 20}}


def write_table(path: Path, problem: AllocationProblem) -> Path:
    """Writes a problem as a table of `fedhq plan`."""
    term = problem.coverage
    content = {
        "strategies": [str(s) for s in problem.strategies],
        "seconds": problem.seconds.tolist(),
        "loss": problem.loss.tolist(),
        "allowed": problem.allowed.tolist(),
        "tradeoff": problem.tradeoff,
        "deadline_seconds": problem.deadline_seconds,
        "min_participation": problem.min_participation,
        "budgets": [
            {"resource": b.resource, "usage": b.usage.tolist(), "limit": b.limit}
            for b in problem.budgets
        ],
        "coverage": term
        and {
            "label_counts": term.label_counts.tolist(),
            "teaches": term.teaches.tolist(),
            "loss_curve": term.loss_curve.tolist(),
        },
    }
    path.write_text(json.dumps(content), "utf-8")
    return path


def of_table(path: Path, space: dict, allocation: dict | None = None, **search) -> dict:
    """A search over a table; the space's keys are those of the allocation."""
    named = {f"allocation.{key}": values for key, values in space.items()}
    return {
        "problem": {"path": str(path)},
        "allocation": allocation or {},
        "search": {"space": named, **search},
    }
