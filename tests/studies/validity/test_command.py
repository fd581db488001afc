"""`fedhq study validity`: what it writes, and what it says where it cannot."""

import json

import numpy as np
import pytest

from fedhq.studies.entry import main
from fedhq.studies.runs import TrainedRun
from fedhq.studies.validity.grid import SETTINGS, trials_of


@pytest.fixture
def trained(tmp_path):
    """A folder that holds runs of three settings and two seeds, their losses made up."""
    rng, lines = np.random.default_rng(0), {}
    for setting in SETTINGS[:6:2]:
        for trial in (t for seed in (100, 101) for t in trials_of(setting, seed)):
            share = np.mean([d == "qat" for d in trial.drawn.does])
            curve = (0.7 + 0.2 * share**0.5 + 0.005 * rng.normal(),) * 3
            run = TrainedRun(trial.spec.key, curve, (0.9,) * 3, curve, (0.9,) * 3, 1.0)
            lines[run.key] = json.dumps(vars(run))
    (tmp_path / "runs.jsonl").write_text("\n".join(lines.values()) + "\n", "utf-8")
    return tmp_path


def arguments(folder, *more):
    return ["study", "validity", "--runs", str(folder), "--tasks", "digits-mlp", *more]


def test_a_part_of_the_grid_is_analysed_and_what_is_missing_is_said(trained, capsys):
    out = trained / "out"
    fit = trained / "fitted.json"
    given = ("--no-training", "--out", str(out), "--fit", str(fit))
    assert main(arguments(trained, *given)) == 0
    told = capsys.readouterr()
    assert "162 federations in 6 cells" in told.out
    assert "not trained: digits-mlp, alpha 0.1, W3A3, seed 100: 27 of 27" in told.err
    assert "coverage of clusters" in (out / "validity.md").read_text("utf-8")
    page = (out / "report.html").read_text("utf-8")
    assert "Which data must do QAT?" in page
    assert page.count("class=plot") == 2
    fitted = json.loads(fit.read_text("utf-8"))
    assert fitted["loss_curve"][0][0] == 0
    assert set(fitted) == {
        "loss_curve",
        "skip_price",
        "skip_memory",
        "wire_price",
        "unevenness_price",
        "rule_loss",
        "origin",
    }


def test_a_seed_that_is_named_twice_counts_once(trained, capsys):
    given = ("--no-training", "--out", str(trained / "out"), "--seeds", "100,100")
    assert main(arguments(trained, *given)) == 0
    assert "81 federations in 3 cells" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--tasks", "nothing"), "tasks must be of digits-mlp"),
        (("--seeds", "1,x"), "--seeds 1,x: must be whole numbers"),
        (("--workers", "0"), "--workers 0: must be at least 1"),
        (("--no-training", "--seeds", "999"), "0 of 0 whole settings"),
    ],
)
def test_faults_are_told(tmp_path, capsys, given, told):
    assert main(arguments(tmp_path, *given)) == 2
    assert told in capsys.readouterr().err
