"""Solvers that only an ablation needs: other libraries, baselines, a known-bad control."""
