"""How well predicted step times hold against measured ones: `python -m fedhq.studies.hardware`."""
