"""Clients that fail in every way."""
