"""Fine-grained adjustment: learns times and loss from the rounds that it sees."""

from .loss_model import LossModel
from .model import TimeModel
from .predicted import PredictedTimes, quantile_seconds

__all__ = ["LossModel", "PredictedTimes", "TimeModel", "quantile_seconds"]
