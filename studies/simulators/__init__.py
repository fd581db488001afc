"""The same federated training written for fedhq, a bare loop, and other simulators.

Each program runs as a script, in an environment of its own where it needs one; all train what
`task.py` holds, and `fedhq.studies.bench_simulators` compares them.
"""
