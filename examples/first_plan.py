"""The first round's plan with nothing trained, and one float step timed on every device.

    python examples/first_plan.py

A network that nobody has measured, four devices of which each told how long one step in float
takes, and how many examples of each class each one holds. The hardware analysis predicts what QAT
would take there, the data analysis prices whose data must take part in it, and the program decides.
"""

import numpy as np
import torch
from torch import nn

from fedhq.allocator import DeviceProfile, HybridAllocator, analyse_hardware, parse_menu
from fedhq.fl_core import Dataset
from fedhq.fl_core.predicting import predict_steps
from fedhq.fl_core.wire.codec import encoded_bytes

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
BATCH, CLASSES, STEPS = 16, 5, 50
UPLINK, DOWNLINK = 1e5, 5e5  # bytes a second

NETWORK = nn.Sequential(
    nn.Conv2d(3, 12, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(12, 24, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(24, CLASSES),
)
FLOAT_STEP_SECONDS = {"gateway": 0.004, "phone": 0.012, "old phone": 0.04, "camera": 0.06}
LABEL_COUNTS = np.array(
    [[90, 80, 0, 0, 5], [0, 60, 70, 0, 0], [0, 0, 0, 90, 60], [40, 0, 40, 0, 0]]
)


def main() -> None:
    """Predicts, decides, and says why; nothing is trained."""
    noise = Dataset(torch.rand(BATCH, 3, 16, 16), torch.arange(BATCH) % CLASSES, CLASSES)
    predicted = predict_steps(NETWORK, noise, ["fp32", *MENU], BATCH, "mine")
    reference, _, _, quantized = predicted.step_seconds
    print(f"predicted: a QAT step takes {quantized / reference:.2f} of a float step")

    # A device that takes so many times as long for the one step takes as many for the others.
    devices = [
        DeviceProfile(name, seconds / reference, UPLINK, DOWNLINK)
        for name, seconds in FLOAT_STEP_SECONDS.items()
    ]
    shapes = [tuple(p.shape) for p in NETWORK.parameters()]
    sent = [0 if s.is_skip else encoded_bytes(shapes, s.wire_bits) for s in MENU]
    steps = [STEPS] * len(devices)
    hardware = analyse_hardware(devices, steps, predicted.select(MENU), sent, sum(sent))

    allocator = HybridAllocator.open(MENU, deployed="qat-w2a2")
    clients = allocator.join(
        hardware, num_examples=LABEL_COUNTS.sum(axis=1), label_counts=LABEL_COUNTS
    )
    plan = allocator.plan(1)
    for i in clients:
        print(f"{devices[i].device_class}: {plan.strategy(i)}")
    print(f"a round takes {plan.round_seconds:.1f} s; nobody has trained yet")


if __name__ == "__main__":
    main()
