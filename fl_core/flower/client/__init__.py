"""The client: the mod, the profile, and what goes around a training loop."""
