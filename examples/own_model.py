"""Your own torch model on your own data: fedhq decides who trains at which precision.

    pip install -e '.[all]'
    python examples/own_model.py

Records, checkpoint and model go to runs/own_model; the same command resumes what stands there.
"""

from collections import Counter
from pathlib import Path

from sklearn.datasets import load_digits
from torch import manual_seed, nn

from fedhq.fl_core import Federation, Trainer, TrainingSettings, read_clients, read_rounds
from fedhq.models.export import export_onnx

if __name__ == "__main__":
    # Any network will do that keeps no running statistics (GroupNorm instead of BatchNorm).
    manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    # 500 examples to test on, 200 that calibrate ranges at the server; 12 clients share the rest.
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8) / 16
    clients = [(images[700 + k :: 12], labels[700 + k :: 12]) for k in range(12)]

    folder = Path("runs/own_model")
    federation = Federation.of(
        model,
        clients,
        test=(images[:500], labels[:500]),
        calibration=(images[500:700], labels[500:700]),
        profile=folder / "profile.json",  # step times: measured on this machine if not there
        training=TrainingSettings(rounds=20, local_epochs=2, learning_rate=0.05, momentum=0.9),
    )
    trainer = Trainer(federation, federation.allocator(), folder)
    weights = trainer.run()

    print(f"deployed at 2 bits: accuracy {read_rounds(folder)[-1].deployed_accuracy:.3f}")
    did = Counter((record.client, record.strategy) for record in read_clients(folder))
    for (client, strategy), rounds in sorted(did.items()):
        print(f"client {client}: {strategy} in {rounds} rounds")
    export_onnx(federation.ship(weights), federation.test.inputs, folder / "model.onnx")
