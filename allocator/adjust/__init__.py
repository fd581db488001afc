"""Fine-grained adjustment: learns each client's times from the rounds it sees."""

from .model import PredictedTimes, TimeModel, quantile_seconds

__all__ = ["PredictedTimes", "TimeModel", "quantile_seconds"]
