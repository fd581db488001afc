"""A sampler that first tries what a solver knows."""

from ._allocation import allocation_seeds
from ._sampler import SolverSeededSampler

__all__ = ["SolverSeededSampler", "allocation_seeds"]
