"""A client's script as FLARE runs it: softmax regression in NumPy on data of its own."""

import numpy as np
import nvflare.client as flare

from fedhq.allocator import Method, Strategy

STEPS, RATE = 60, 2.0


def own_data(site: str) -> tuple[np.ndarray, np.ndarray]:
    """Eight clusters in the plane; each site holds half of them."""
    number = int(site.removeprefix("site-"))
    rng = np.random.default_rng(number)
    labels = (rng.integers(0, 4, 40 * number) + 4 * (number % 2)) % 8
    angles = 2 * np.pi * labels / 8
    points = np.stack([np.cos(angles), np.sin(angles)], 1) + rng.normal(0, 0.1, (len(labels), 2))
    return points.astype(np.float32), labels


def seen(weights: np.ndarray, bits: int | None) -> np.ndarray:
    """The weights as they will be deployed: rounded per row, where QAT trains with that."""
    if bits is None:
        return weights
    most = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(weights).max(axis=1, keepdims=True), 1e-8) / most
    return np.round(weights / scale) * scale


def train(
    params: dict[str, np.ndarray], strategy: Strategy, points: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Gradient descent; QAT computes its gradients at rounded weights."""
    bits = strategy.weight_bits if strategy.method is Method.QAT else None
    weights, bias = params["weights"].copy(), params["bias"].copy()
    for _ in range(STEPS):
        logits = points @ seen(weights, bits).T + bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        shares[np.arange(len(labels)), labels] -= 1
        weights -= RATE * shares.T @ points / len(labels)
        bias -= RATE * shares.mean(axis=0)
    return {"weights": weights, "bias": bias}


def main() -> None:
    """Answers the controller until it is done."""
    flare.init()
    site = flare.get_site_name()
    points, labels = own_data(site)
    while flare.is_running():
        model = flare.receive()
        about = {"num_examples": len(labels)}
        if "profile" in model.meta:
            about["label_counts"] = np.bincount(labels, minlength=8).tolist()  # or less: NaN, noisy
            about["cannot"] = ["qat-w4a8"] if site == "site-2" else []  # say, an old device
            flare.send(flare.FLModel(metrics={}, meta=about))
            continue
        about |= {"strategy": model.meta["strategy"], "round": model.current_round}
        trained = train(model.params, Strategy.parse(about["strategy"]), points, labels)
        flare.send(flare.FLModel(params=trained, meta=about))


if __name__ == "__main__":
    main()
