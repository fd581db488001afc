"""Fine-grained adjustment: learns each client's times from the rounds it sees."""

from .model import TimeModel
from .predicted import PredictedTimes, quantile_seconds

__all__ = ["PredictedTimes", "TimeModel", "quantile_seconds"]
