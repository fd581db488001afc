"""What is told of a run while it goes on: to people, and to trackers of experiments."""

from .callback import Callback, RunInfo
from .progress import ShowProgress

__all__ = ["Callback", "RunInfo", "ShowProgress"]
