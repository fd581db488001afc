"""Fleets of devices."""
