"""A fleet whose policies are planned once for all tests, and searches over it."""

import pytest
from search_studies import Policies, make_study

from fedhq.allocator import FedHQError

LIMITS = {"round_seconds": 12.0}


@pytest.fixture(scope="session")
def policies():
    return Policies(clients=30)


@pytest.fixture
def make(policies):
    """Makes a search of so many trials; about half of them break its limit."""

    def made(trials=30, **changes):
        return make_study(trials, policies, **{"limits": LIMITS, **changes})

    return made


@pytest.fixture
def study(make):
    return make()


class Unplannable:
    """A planner as of a search whose data are gone; quick, too."""

    def plan(self, params, seed=None):
        raise FedHQError("the data are gone")


@pytest.fixture
def unplannable():
    return Unplannable()
