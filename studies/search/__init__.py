"""Searches with Optuna over the policy; who does what under it, the allocator decides."""
