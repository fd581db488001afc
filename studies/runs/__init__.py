"""Trained runs that studies share: each is trained once, kept, and taken up by whoever needs it."""

from .spec import RunSpec
from .store import RECORDED, RunStore
from .tasks import TASKS, task_settings
from .training import TrainedRun

__all__ = ["RECORDED", "TASKS", "RunSpec", "RunStore", "TrainedRun", "task_settings"]
