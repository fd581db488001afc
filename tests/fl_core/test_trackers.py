"""Trackers of experiments, read back from what they wrote: whole runs, and resumed ones."""

import json
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from run_records import client_records, round_record, wall_record, whole_round

from fedhq.allocator.errors import FedHQError
from fedhq.fl_core.callbacks import Callback, MLflow, RunInfo, TensorBoard, WeightsAndBiases
from fedhq.fl_core.callbacks.tracker import round_scalars

HAS_TRACKERS = all(find_spec(name) for name in ("mlflow", "wandb"))
needs_trackers = pytest.mark.skipif(not HAS_TRACKERS, reason="needs fedhq[track], as make dev has")

CONFIG = {"seed": 5, "menu": ("skip", "qat-w2a2"), "fleet": {"classes": [{"memory": None}]}}


def train(tracker: Callback, folder: Path, done: int, last: int, *, ends: bool = True) -> None:
    """What a trainer tells, from the round after `done`."""
    folder.mkdir(exist_ok=True)
    try:
        tracker.on_start(RunInfo(folder, 4, done, CONFIG))
        for number in range(done + 1, last + 1):
            tracker.on_round(*whole_round(number))
        if ends:
            tracker.on_end({})
    finally:
        tracker.close()


def test_scalars_are_the_numbers_of_the_records_and_counts() -> None:
    scalars = round_scalars(round_record(3), client_records(3), wall_record(3), {"fp32", "skip"})
    assert scalars["deployed_accuracy"] == 0.3
    assert scalars["uplink_bytes"] == 1000
    assert {"round", "float_accuracy", "bottleneck", "wall/round"}.isdisjoint(scalars)
    assert (scalars["strategy/skip"], scalars["strategy/fp32"]) == (1, 0)
    assert (scalars["status/ok"], scalars["status/late"]) == (2, 0)
    assert (scalars["wall/train_seconds"], scalars["wall/client_seconds"]) == (1.5, 0.75)


# --- TensorBoard ---


def read_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_tensorboard_reads_back_scalars_and_hyperparameters(tmp_path) -> None:
    train(TensorBoard(), tmp_path / "run", 0, 3)
    events = read_events(tmp_path / "run" / "tensorboard")
    points = [(e.step, round(e.value, 6)) for e in events.Scalars("deployed_accuracy")]
    assert points == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert "float_accuracy" not in events.Tags()["scalars"]
    assert [e.value for e in events.Scalars("strategy/qat-w2a2")] == [1, 1, 1]
    assert b"fleet.classes.0.memory" in b"".join(events.PluginTagToContent("hparams").values())


def test_tensorboard_purges_what_a_resumed_run_trains_again(tmp_path) -> None:
    folder = tmp_path / "events"
    train(TensorBoard(folder), tmp_path / "run", 0, 3, ends=False)
    train(TensorBoard(folder), tmp_path / "run", 2, 4)
    assert [e.step for e in read_events(folder).Scalars("simulated_seconds")] == [1, 2, 3, 4]


# --- MLflow ---


@pytest.fixture
def store(tmp_path, monkeypatch) -> str:
    """A store of files: made at once, where a data base takes a second."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlflow").as_uri()


def read_runs(uri: str) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("fedhq")
    return client, list(client.search_runs([experiment.experiment_id]))


@needs_trackers
def test_a_resumed_run_goes_on_in_its_mlflow_run_and_logs_no_step_twice(tmp_path, store) -> None:
    folder = tmp_path / "mine"
    train(MLflow(tracking_uri=store), folder, 0, 3, ends=False)
    client, (run,) = read_runs(store)
    assert (run.info.status, run.info.run_name) == ("KILLED", "mine")
    assert run.data.params["fleet.classes.0.memory"] == "none"
    assert run.data.params["menu"] == "skip, qat-w2a2"
    train(MLflow(tracking_uri=store), folder, 2, 4)
    _, (run,) = read_runs(store)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "deployed_accuracy")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert "bottleneck" not in run.data.metrics
    kept = json.loads((folder / "trackers.json").read_text("utf-8"))
    assert kept == {"mlflow": {"run": run.info.run_id, "round": 4}}


@needs_trackers
def test_a_run_begun_anew_has_a_new_run_in_mlflow(tmp_path, store) -> None:
    for _ in range(2):
        train(MLflow(tracking_uri=store), tmp_path / "run", 0, 1)
    assert len(read_runs(store)[1]) == 2


@needs_trackers
def test_mlflow_must_know_the_run_that_is_resumed(tmp_path, store) -> None:
    train(MLflow(tracking_uri=store), tmp_path / "run", 0, 1)
    with pytest.raises(FedHQError, match=r"has run .* must hold.*trackers\.json"):
        train(MLflow(tracking_uri=f"{store}-2"), tmp_path / "run", 1, 2)


@needs_trackers
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*noload:DeprecationWarning")  # MLflow's own
def test_mlflow_keeps_runs_in_a_data_base(tmp_path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    train(MLflow(tracking_uri=uri), tmp_path / "run", 0, 2)
    _, (run,) = read_runs(uri)
    assert run.data.metrics["deployed_accuracy"] == 0.2


# --- Weights & Biases ---


def read_wandb(path: Path) -> list[Any]:
    """The records of an offline run: protocol buffers in a log of LevelDB's layout."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, records, whole = path.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block holds no header
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            records.append(Record.FromString(whole))
            whole = b""
    return records


def read_ended(path: Path) -> list[Any]:
    """The records, once wandb's own process has written the last."""
    deadline = time.monotonic() + 60
    while True:
        records = read_wandb(path)
        if any(r.WhichOneof("record_type") == "exit" for r in records):
            return records
        assert time.monotonic() < deadline, "wandb never wrote that the run has ended"
        time.sleep(0.1)


def wandb_files(folder: Path) -> list[Path]:
    return sorted(
        folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda p: p.stat().st_mtime_ns
    )


@pytest.fixture
def no_reports(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))


@needs_trackers
def test_wandb_offline_goes_on_under_the_same_id(tmp_path, no_reports) -> None:
    folder, steps = tmp_path / "run", []
    train(WeightsAndBiases(mode="offline"), folder, 0, 3, ends=False)
    train(WeightsAndBiases(mode="offline"), folder, 2, 4)
    files = wandb_files(folder)
    for path, exit_code in zip(files, (1, 0), strict=True):
        records = read_ended(path)
        (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"][:1]
        assert (run.project, run.display_name) == ("fedhq", "run")
        assert {"seed": "5"}.items() <= {u.key: u.value_json for u in run.config.update}.items()
        for history in (r.history for r in records if r.WhichOneof("record_type") == "history"):
            items = {i.key or "/".join(i.nested_key): i.value_json for i in history.item}
            steps.append((history.step.num, float(items["deployed_accuracy"])))
            assert items["strategy/skip"] == "1"
        assert [r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit"] == [
            exit_code
        ]
    assert steps == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    kept = json.loads((folder / "trackers.json").read_text("utf-8"))["wandb"]
    assert {path.stem for path in files} == {f"run-{kept['run']}"}


# --- All ---


@needs_trackers
def test_trackers_keep_their_runs_side_by_side(tmp_path, store, no_reports) -> None:
    for tracker in (MLflow(tracking_uri=store), WeightsAndBiases(mode="disabled")):
        train(tracker, tmp_path / "run", 0, 1)
    kept = json.loads((tmp_path / "run" / "trackers.json").read_text("utf-8"))
    assert {name: run["round"] for name, run in kept.items()} == {"mlflow": 1, "wandb": 1}


@needs_trackers
def test_a_damaged_file_of_runs_is_named(tmp_path) -> None:
    (tmp_path / "trackers.json").write_text("{", encoding="utf-8")
    with pytest.raises(FedHQError, match=r"trackers\.json is JSON`.*Delete it"):
        train(MLflow(), tmp_path, 1, 2)


@pytest.mark.parametrize(
    ("make", "package"),
    [(TensorBoard, "tensorboard"), (MLflow, "mlflow"), (WeightsAndBiases, "wandb")],
)
def test_a_missing_package_is_named_before_training(
    monkeypatch, make: Callable[[], Callback], package
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FedHQError, match=rf"needs {package}.*pip install 'fedhq\[track\]'"):
        make()


def test_importing_the_callbacks_loads_no_tracker() -> None:
    code = (
        "import sys, fedhq.fl_core.callbacks\n"
        "heavy = {'tensorboard', 'mlflow', 'wandb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
