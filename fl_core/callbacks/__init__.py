"""What is told of a run while it goes on: to people, and to trackers of experiments."""

from .callback import Callback, RunInfo
from .progress import ShowProgress
from .to_mlflow import MLflow
from .to_tensorboard import TensorBoard
from .to_wandb import WeightsAndBiases

__all__ = ["Callback", "MLflow", "RunInfo", "ShowProgress", "TensorBoard", "WeightsAndBiases"]
