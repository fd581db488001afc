"""Families of problems, easy and hard, of any size: for tests and studies."""

from .families import FAMILIES, SEPARABLE_FAMILIES

__all__ = ["FAMILIES", "SEPARABLE_FAMILIES"]
