"""What gaps say: the runs that are asked for, and the figures that are read from them."""

import numpy as np
import pytest

from fedhq.studies.gap_tables import Watched, find, remembered, report
from fedhq.studies.gaps import draw_jobs, main

ROUNDS, MEMORY = 20, 0.9


def invented(noise: float, loss_per_gap: float = 0.8, base: float = 0.02):
    """Runs whose weights remember as `MEMORY` says, and lose as the shipped curve does."""
    rng, runs = np.random.default_rng(0), []
    shares = rng.dirichlet(np.full(20, 1.0), 10).T  # of a class that each client holds
    for job in draw_jobs("mlp", [0])[:11]:
        covered = np.array(job.teaches) @ shares
        lost = remembered(covered, MEMORY)
        gap = (lost + base) / loss_per_gap + noise * rng.standard_normal(ROUNDS)
        deployed = 0.9 - lost
        accuracy = np.stack([deployed, deployed + gap, deployed - 0.01, deployed + gap], axis=1)
        runs.append(Watched("invented", 0, accuracy, covered))
    return runs


def test_what_was_put_in_is_found() -> None:
    found = find(invented(noise=0.0))
    assert found.lost_a_gap == pytest.approx(0.8)
    assert found.lost == pytest.approx(1.0, abs=0.03)  # ends of runs are means of five rounds
    assert found.base == pytest.approx(0.02, abs=0.002)
    assert found.server == pytest.approx(0.0, abs=1e-9)
    assert np.argmin(found.spreads) == 3  # of the memories that are tried, the true one
    noisy = find(invented(noise=0.03))
    assert noisy.by_thirds == pytest.approx([0.03] * 3, rel=0.3)


def test_the_record_has_a_row_a_setting_and_the_mean() -> None:
    text = report(invented(0.0), "a machine", 90.0)
    assert "11 runs, 1.5 core-minutes" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert len({line.count("|") for line in rows}) == 1


def test_jobs_are_all_different_and_bad_options_are_named(capsys) -> None:
    jobs = draw_jobs("cnn", [400, 401])
    assert len({job.spec.key for job in jobs}) == len(jobs) == 44
    with pytest.raises(SystemExit):
        main(["--workers", "0"])
    assert "`workers >= 1` must hold, but got 0" in capsys.readouterr().err
