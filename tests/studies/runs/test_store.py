"""Runs are trained once, kept as soon as they are done, and taken up by whoever comes next."""

import json
from dataclasses import replace

import pytest

from fedhq.studies.runs import RunSpec, RunStore, task_settings
from fedhq.studies.runs.store import RUNS_FILE
from fedhq.studies.runs.training import train_run

SETTINGS = task_settings("digits-mlp", alpha=0.3, bits=2, seed=0, num_clients=4)
SETTINGS = replace(SETTINGS, training=replace(SETTINGS.training, rounds=2, local_epochs=1))
QAT, PTQ = RunSpec(SETTINGS, (("qat-w2a2",) * 4,)), RunSpec(SETTINGS, (("ptq-w2a2",) * 4,))


@pytest.fixture(scope="module")
def trained():
    return train_run(QAT)


def test_a_run_has_its_accuracies_after_every_round(trained):
    assert len(trained.deployed) == len(trained.server_in_float) == 2
    assert trained.tail(1) == trained.deployed[-1]
    assert replace(train_run(QAT), core_seconds=0) == replace(trained, core_seconds=0)


def test_a_plan_that_changes_trains_what_each_round_says(trained):
    late = train_run(RunSpec(SETTINGS, (("ptq-w2a2",) * 4, ("qat-w2a2",) * 4)))
    assert late.in_float[0] == train_run(PTQ).in_float[0]
    assert late.deployed != trained.deployed


def test_a_repeat_draws_anew_on_the_same_clients(trained):
    again = train_run(replace(QAT, repeat=1))
    assert again.deployed != trained.deployed
    assert again.key != trained.key


def test_a_plan_of_other_clients_is_refused():
    with pytest.raises(ValueError, match="a strategy a client, 4, but has 3"):
        train_run(RunSpec(SETTINGS, (("skip",) * 3,)))


@pytest.mark.slow
def test_what_is_kept_is_not_trained_again(tmp_path, trained):
    told = []
    store, other = RunStore(tmp_path), RunStore(tmp_path)
    runs = store.train([QAT, PTQ, QAT], 2, lambda done, left: told.append((done, left)))
    assert told == [(1, 2), (2, 2)]
    assert replace(runs[0], core_seconds=trained.core_seconds) == trained
    assert runs[2] == runs[0]
    assert other.find(PTQ) == runs[1]
    assert other.missing([QAT, PTQ]) == []
    assert (
        other.train([PTQ, QAT], 2, lambda done, left: pytest.fail("trained again")) == runs[1::-1]
    )


def test_a_line_that_is_half_written_is_left_for_later(tmp_path, trained):
    line = json.dumps(vars(trained)) + "\n"
    path = tmp_path / RUNS_FILE
    path.write_text(line[:40])
    store = RunStore(tmp_path)
    assert store.find(QAT) is None
    assert len(store) == 0
    path.write_text(line)
    assert store.find(QAT) == trained


def test_a_line_that_a_process_tore_as_it_ended_is_trained_again(tmp_path, trained):
    path = tmp_path / RUNS_FILE
    path.write_text(json.dumps(vars(trained))[:40])
    RunStore(tmp_path)._keep(trained)
    assert RunStore(tmp_path).find(QAT) == trained


def test_recorded_runs_are_taken_up_and_never_written(tmp_path, trained):
    (tmp_path / RUNS_FILE).write_text(json.dumps(vars(trained)) + "\n")
    recorded, again = tmp_path / "recorded.jsonl.gz", tmp_path / "again.jsonl.gz"
    RunStore(tmp_path).record(recorded)
    store = RunStore(tmp_path / "own", recorded=[recorded])
    assert store.find(QAT) == trained
    assert not (tmp_path / "own" / RUNS_FILE).exists()
    store.record(again)
    assert again.read_bytes() == recorded.read_bytes()
