"""Configurations that train in a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser import Browser

TINY = """
menu = ["skip", "ptq-w2a2", "qat-w2a2"]
[data]
name = "digits"
num_test = 200
num_calibration = 50
[partition]
num_clients = 4
[[fleet.classes]]
name = "fast"
share = 1
slowdown = 1
uplink_bytes_per_second = 1e6
downlink_bytes_per_second = 1e6
[[fleet.classes]]
name = "slow"
share = 1
slowdown = 3
uplink_bytes_per_second = 1e5
downlink_bytes_per_second = 1e5
[training]
rounds = 3
"""
ARMS = """
[compare]
seeds = [0, 1]
[[scenarios]]
name = "independent"
[[scenarios]]
name = "tied"
fleet.skew_correlation = 1.0
[[arms]]
name = "all-QAT"
allocation = { solver = "uniform" }
[[arms]]
name = "random"
allocation = { solver = "random", share = "fedhq" }
[[arms]]
name = "fedhq"
"""


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def comparison_config(config) -> Path:
    config.write_text(TINY + ARMS, encoding="utf-8")
    return config


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; pages are opened one after the other."""
    from browser import open_browser

    with open_browser() as opened:
        yield opened
