"""A training loop of your own, and the one object of fedhq that it needs.

    python examples/plain_loop.py

No trainer and no framework: the clients are a list, the model is a matrix, the average is a line.
`HybridAllocator` is told who is there (`join`), says who does what (`plan`), and is told what came
of it (`observe`). It starts without knowing how fast anybody is.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fedhq.allocator import HardwareTables, HybridAllocator, Method, Outcome, Strategy

BITS, ROUNDS, STEPS, RATE = 3, 24, 20, 0.1


@dataclass
class Client:
    """One device: its data, and how long a step takes it, which the allocator has to find out."""

    images: np.ndarray
    labels: np.ndarray
    step_seconds: float
    can_do_qat: bool = True


def rounded(weights: np.ndarray) -> np.ndarray:
    """The weights as they will be deployed."""
    scale = np.abs(weights).max(axis=0) / (2 ** (BITS - 1) - 1)
    return np.round(weights / np.maximum(scale, 1e-9)) * scale


def train(client: Client, weights: np.ndarray, strategy: Strategy) -> tuple[np.ndarray, float]:
    """The client's update and how long it took; QAT trains with the rounding, and takes longer."""
    is_qat = strategy.method is Method.QAT
    if is_qat and not client.can_do_qat:
        raise NotImplementedError("no fake quantization on this device")
    trained, rows = weights.copy(), np.arange(len(client.labels))
    for _ in range(STEPS):
        logits = client.images @ (rounded(trained) if is_qat else trained)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        shares[rows, client.labels] -= 1
        trained -= RATE * client.images.T @ shares / len(rows)
    return trained - weights, STEPS * client.step_seconds * (1.5 if is_qat else 1.0)


def join(allocator: HybridAllocator, newcomers: list[Client]) -> None:
    """Tells the allocator what it may know of some clients."""
    allocator.join(
        HardwareTables.unknown(allocator.menu, len(newcomers)),
        num_examples=[len(c.labels) for c in newcomers],
        # Or a row of NaN, or `grouped_counts(...)`, or `noisy_counts(...)`, or None.
        label_counts=[np.bincount(c.labels, minlength=10) for c in newcomers],
    )


def main(state: Path) -> None:
    """Trains ten clients; four of them come later."""
    clients, images, labels = make_clients(10)
    state.parent.mkdir(parents=True, exist_ok=True)
    allocator = HybridAllocator.open(["ptq-w3a8", "qat-w3a8"], deployed="qat-w3a8")
    join(allocator, clients[:6])
    weights, total_seconds = np.zeros((64, 10)), 0.0
    for number in range(1, ROUNDS + 1):
        if number == 8:
            join(allocator, clients[6:])
        plan = allocator.plan(number)
        updates, shares, outcomes = [], [], []
        for i in range(allocator.num_clients):
            strategy = plan.strategy(i)
            try:
                update, seconds = train(clients[i], weights, strategy)
            except NotImplementedError:  # never ask it for that again
                allocator.forbid(i, strategy)
                outcomes.append(Outcome(i, strategy, None, succeeded=False))
                continue
            updates.append(update)
            shares.append(len(clients[i].labels))
            outcomes.append(Outcome(i, strategy, seconds, succeeded=True))
        weights += np.average(updates, axis=0, weights=shares)  # FedAvg
        allocator.observe(outcomes)
        state.write_text(json.dumps(allocator.state_dict()), encoding="utf-8")  # `load_state_dict`
        round_seconds = max(o.seconds or 0.0 for o in outcomes)
        total_seconds += round_seconds
        if number in (1, 2, 7, 8, ROUNDS):
            did = " ".join("qat" if "qat" in str(o.strategy) else "ptq" for o in outcomes)
            print(f"round {number}: {round_seconds:.1f} s, {did}")
    accuracy = (images @ rounded(weights)).argmax(axis=1) == labels
    print(f"deployed accuracy {accuracy.mean():.3f} after {total_seconds:.0f} s")


def make_clients(number: int) -> tuple[list[Client], np.ndarray, np.ndarray]:
    """Digits, skewed by class; every client is slower than the one before. And a test set."""
    rng = np.random.default_rng(0)
    images, labels = load_digits(return_X_y=True)
    images, order = images / 16, rng.permutation(len(labels))
    tested, trained = order[:400], order[400:]
    trained = trained[np.argsort((labels[trained] + rng.normal(0, 6, len(trained))) % 10)]
    clients = [
        Client(images[part], labels[part], step_seconds=0.05 * 1.3**k, can_do_qat=k != 2)
        for k, part in enumerate(np.array_split(trained, number))
    ]
    return clients, images[tested], labels[tested]


if __name__ == "__main__":
    main(Path("runs/plain_loop/allocator.json"))
