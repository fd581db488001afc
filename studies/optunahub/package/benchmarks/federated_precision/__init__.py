"""Federated precision allocation: a constrained problem whose optimum is known."""

from ._problem import Point, Problem

__all__ = ["Point", "Problem"]
