"""Solver ablations: instance families x solvers x limits, measured, recorded, reported."""
