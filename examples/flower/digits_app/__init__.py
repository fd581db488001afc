"""Handwritten digits, federated."""
