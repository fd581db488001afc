"""Flower's messages can be made outside of a run."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def identity() -> None:
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
