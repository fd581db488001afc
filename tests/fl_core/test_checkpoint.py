"""Checkpoints: what comes back, what damage does, and what a killed process leaves."""

import errno
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from fedhq.allocator.errors import CheckpointError
from fedhq.fl_core.records.checkpoint import (
    Checkpoint,
    check_same_config,
    load_checkpoint,
    save_checkpoint,
)
from fedhq.fl_core.wire.pending import Pending


def checkpoint(**changes):
    rng = np.random.default_rng(0)
    weights = {
        "z.weight": rng.normal(size=(4, 3, 2)).astype(np.float32),
        "a.bias": rng.normal(size=5).astype(np.float32),
        "scalar": np.array(np.nan, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }
    residuals = {7: rng.normal(size=30).astype(np.float32), 2: np.full(30, np.nan, np.float32)}
    values = {
        "round_number": 12,
        "simulated_seconds": 0.1 + 0.2,
        "server": {f"weights/{k}": v for k, v in weights.items()}
        | {"mean/a.bias": weights["a.bias"]},
        "server_state": {"round_number": 12, "taken": [[11, 3]]},
        "pending": (
            Pending(4, 11, "qat-w2a2", 0.5, 0.25, b"\x00\x01\x02"),
            Pending(4, 11, "qat-w2a2", 0.5, 0.25, b""),
        ),
        "residuals": residuals,
        "trainer_state": {"barren_rounds": 2, "failed_clients": [3, 5]},
        "controller_state": {"prices": [0.25, None], "seen": {"3": True}, "text": "ä\u2028\\"},
        "config": {"seed": 1, "memory_bytes": math.inf},
    }
    return Checkpoint(**(values | changes))


def assert_same(got, expected):
    for name in (
        "round_number",
        "simulated_seconds",
        "server_state",
        "pending",
        "trainer_state",
        "controller_state",
        "config",
    ):
        assert getattr(got, name) == getattr(expected, name)
    assert list(got.residuals) == sorted(expected.residuals)
    residuals = {client: expected.residuals[client] for client in got.residuals}
    groups = [(got.server, expected.server), (got.weights, expected.weights)]
    for mine, theirs in [*groups, (got.residuals, residuals)]:
        assert list(mine) == list(theirs)
        for name, values in mine.items():
            assert values.shape == theirs[name].shape
            assert values.dtype == np.float32
            assert values.tobytes() == theirs[name].tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


# --- Saving and loading ---


def test_everything_comes_back_in_order_and_to_the_last_bit(path):
    save_checkpoint(path, checkpoint())
    loaded = load_checkpoint(path)
    assert_same(loaded, checkpoint())
    loaded.weights["z.weight"][...] = 0  # the caller's own
    assert_same(load_checkpoint(path), checkpoint())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_equal_content_gives_equal_bytes(path):
    save_checkpoint(path, checkpoint())
    first = path.read_bytes()
    save_checkpoint(path, load_checkpoint(path))
    assert path.read_bytes() == first
    shuffled = checkpoint(config={"memory_bytes": math.inf, "seed": 1})
    save_checkpoint(path, shuffled)
    assert path.read_bytes() == first
    residuals = dict(reversed(shuffled.residuals.items()))
    save_checkpoint(path, checkpoint(residuals=residuals))
    assert path.read_bytes() == first
    server = {k: np.asfortranarray(v) if v.ndim > 1 else v for k, v in shuffled.server.items()}
    save_checkpoint(path, checkpoint(server=server))
    assert path.read_bytes() == first


def test_any_safetensors_reader_sees_the_weights_and_the_digest_is_of_the_rest(path):
    save_checkpoint(path, checkpoint())
    data = path.read_bytes()
    tensors = safetensors.numpy.load_file(path)
    assert (tensors["weights/z.weight"] == checkpoint().weights["z.weight"]).all()
    assert tensors["residuals"].shape == (2, 30)
    assert (tensors["residuals"][1] == checkpoint().residuals[7]).all()
    assert tensors["sha256"].tobytes() == hashlib.sha256(data[:-32]).digest() == data[-32:]


def test_a_client_that_is_heard_again_lets_its_row_go(path):
    save_checkpoint(path, checkpoint())
    assert all(row.base is None for row in load_checkpoint(path).residuals.values())


def test_the_header_does_not_grow_with_what_each_client_is_owed(path):
    """One name a tensor and client made it too large at a hundred thousand clients."""
    server = {f"weights/{k}": np.zeros(1, np.float32) for k in range(8)}
    residuals = {client: np.full(8, client, np.float32) for client in range(20_000)}
    several = checkpoint(server=server, residuals=residuals)
    save_checkpoint(path, several)
    assert path.stat().st_size < 20_000 * (4 * 8 + 8)
    loaded = load_checkpoint(path)
    assert all((loaded.residuals[client] == client).all() for client in (0, 777, 19_999))


def test_tuples_come_back_as_lists(path):
    save_checkpoint(path, checkpoint(controller_state={"a": (1, (2.5,))}))
    assert load_checkpoint(path).controller_state == {"a": [1, [2.5]]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"round_number": -1}, "`round_number` must be an int >= 0"),
        ({"round_number": 1.0}, "`round_number`"),
        ({"simulated_seconds": math.nan}, "simulated_seconds"),
        (
            {"server": {"weights/w": np.zeros(3)}},
            "`weights/w` must be a float32 array, but got float64",
        ),
        ({"residuals": {3: [0.0] * 30}}, r"`residuals\[3\]` must be a float32.*got float64"),
        ({"residuals": {3: np.zeros(29, np.float32)}}, r"shape \(30,\), as many.*\(29,\)"),
        ({"residuals": {"3": np.zeros(30, np.float32)}}, "`client 3`"),
        ({"config": {"a": {"b": [1, math.nan]}}}, r"`config\.a\.b\.1` must be a JSON value"),
        ({"server_state": {"a": math.nan}}, r"`server_state\.a`"),
        ({"trainer_state": [1]}, "`trainer_state` must be a mapping"),
        ({"config": []}, "`config` must be a mapping"),
        ({"config": {"a": Path("x")}}, r"`config\.a`"),
        ({"controller_state": {"a": {3: 4}}}, r"`controller_state\.a` must have text keys"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        checkpoint(**changes)


# --- The same configuration ---


def test_the_first_differing_key_is_named_with_both_values():
    saved = {"seed": 1, "fleet": {"classes": [{"slowdown": 2.0}, {"slowdown": 3.0}]}}
    check_same_config(
        saved, {"fleet": {"classes": ({"slowdown": 2}, {"slowdown": 3.0})}, "seed": 1}
    )
    other = {"seed": 2, "fleet": {"classes": [{"slowdown": 2.0}, {"slowdown": 4.0}]}}
    with pytest.raises(CheckpointError, match=r"fleet\.classes\.1\.slowdown is 4\.0 and was 3\.0"):
        check_same_config(saved, other)


@pytest.mark.parametrize(
    ("saved", "current", "message"),
    [
        ({"a": 1}, {}, "a is nothing and was 1"),
        ({}, {"a": None}, "a is None and was nothing"),
        ({"a": [1]}, {"a": [1, 2]}, r"a\.1 is 2 and was nothing"),
        ({"a": True}, {"a": 1}, "a is 1 and was True"),
        ({"a": {"b": 1}}, {"a": [1]}, r"a is \[1\] and was \{'b': 1\}"),
        ({"a": "1"}, {"a": 1}, "a is 1 and was '1'"),
    ],
)
def test_missing_keys_lengths_and_types_differ(saved, current, message):
    with pytest.raises(CheckpointError, match=message):
        check_same_config(saved, current)


# --- Damage ---


def test_every_flipped_bit_is_noticed(path):
    save_checkpoint(path, checkpoint())
    data = path.read_bytes()
    flips = [(at, 1 << (at % 8)) for at in range(len(data))]
    flips += [(at, mask) for at in range(0, len(data), 7) for mask in (1, 16, 32, 128, 255)]
    with path.open("r+b", buffering=0) as file:
        for at, mask in flips:
            os.pwrite(file.fileno(), bytes([data[at] ^ mask]), at)
            with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors"):
                load_checkpoint(path)
            os.pwrite(file.fileno(), data[at : at + 1], at)
    assert path.read_bytes() == data


def test_every_truncation_and_any_tail_is_noticed(path):
    save_checkpoint(path, checkpoint())
    data = path.read_bytes()
    for tail in (b"\0", data):
        path.write_bytes(data + tail)
        with pytest.raises(CheckpointError, match="Restore the file"):
            load_checkpoint(path)
    for size in reversed(range(len(data))):
        os.truncate(path, size)
        with pytest.raises(CheckpointError, match="Restore the file"):
            load_checkpoint(path)


def test_a_missing_file_and_a_folder_are_named(path):
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors can be read"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="can be read"):
        load_checkpoint(path.parent)


def foreign_files():
    plain = safetensors.numpy.save({"w": np.zeros(3, np.float32)})
    deep = b'{"__metadata__":' + b"[" * 100_000
    return [
        b"",
        b"PK\3\4 a zip file",
        np.random.default_rng(0).bytes(1000),
        plain,
        safetensors.numpy.save({"w": np.zeros(3, np.float32)}, {"format": "pt"}),
        safetensors.numpy.save({"w": np.zeros(3, np.float32)}, {"fedhq_checkpoint": "[]"}),
        safetensors.numpy.save({"w": np.zeros(3, np.float32)}, {"fedhq_checkpoint": "{}"}),
        len(deep).to_bytes(8, "little") + deep,
    ]


@pytest.mark.parametrize("data", foreign_files(), ids=range(8))
def test_a_foreign_file_is_called_foreign(path, data):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="it is a fedhq checkpoint"):
        load_checkpoint(path)


def write_by_hand(path, state, tensors=None):
    """A file with a right digest and any state."""
    tensors = {"sha256": np.zeros(32, np.uint8), **(tensors or {})}
    data = safetensors.numpy.save(tensors, {"fedhq_checkpoint": json.dumps(state)})[:-32]
    path.write_bytes(data + hashlib.sha256(data).digest())


def test_a_newer_version_asks_for_an_update(path):
    write_by_hand(path, {"format_version": 3, "unheard": "of"})
    with pytest.raises(CheckpointError, match=r"format_version = 2.*it is 3\. Update fedhq"):
        load_checkpoint(path)


def test_an_older_version_names_the_one_that_reads_it(path):
    write_by_hand(path, {"format_version": 1, "weights": []})
    with pytest.raises(CheckpointError, match=r"format_version = 2.*it is 1\. Use the version"):
        load_checkpoint(path)


def test_a_state_that_does_not_fit_its_tensors_is_damage(path):
    whole = {
        "format_version": 2,
        "round_number": 1,
        "simulated_seconds": 1.0,
        "server_state": {},
        "trainer_state": {},
        "controller_state": {},
        "config": {},
        "server": [],
        "residuals": [],
        "pending": [],
    }
    none = {"residuals": np.zeros((0, 0), np.float32)}
    write_by_hand(path, whole, none)
    assert load_checkpoint(path).weights == {}
    for name in list(whole)[1:]:
        for wrong in ({k: v for k, v in whole.items() if k != name}, {**whole, name: "x"}):
            write_by_hand(path, wrong, none)
            with pytest.raises(CheckpointError, match="fit together"):
                load_checkpoint(path)
    write_by_hand(path, {**whole, "server": ["weights/w"]}, {"weights/w": np.zeros(1), **none})
    with pytest.raises(CheckpointError, match="float32"):
        load_checkpoint(path)
    for rows in (None, np.zeros((1, 0), np.float32), np.zeros((2, 3), np.float32)):
        tensors = {} if rows is None else {"residuals": rows}
        write_by_hand(path, {**whole, "residuals": [4, 7]}, tensors)
        with pytest.raises(CheckpointError, match="fit together"):
            load_checkpoint(path)


# --- Writing that fails ---


def test_a_full_disk_leaves_the_previous_checkpoint(path):
    save_checkpoint(path, checkpoint())
    path.with_name(f".{path.name}.tmp").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"can be written.*No space left.*previous"):
        save_checkpoint(path, checkpoint(round_number=13))
    assert load_checkpoint(path).round_number == 12
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_of_any_step_is_wrapped_and_leaves_the_previous_checkpoint(
    path, monkeypatch, step
):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    save_checkpoint(path, checkpoint())
    monkeypatch.setattr(os, step, refuse)
    with pytest.raises(CheckpointError, match="Read-only"):
        save_checkpoint(path, checkpoint(round_number=13))
    assert load_checkpoint(path).round_number == 12
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_state_too_large_for_the_format_leaves_the_previous_checkpoint(path):
    save_checkpoint(path, checkpoint())
    large = checkpoint(round_number=13, controller_state={"text": "x" * 100_000_000})
    with pytest.raises(CheckpointError, match=r"fit a safetensors header.*previous checkpoint"):
        save_checkpoint(path, large)
    assert load_checkpoint(path).round_number == 12


def test_a_folder_that_is_missing_a_file_or_read_only_is_reported(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(CheckpointError, match=r"can be written.*folder"):
            save_checkpoint(folder / "checkpoint", checkpoint())
    if os.geteuid() != 0:  # root may write everywhere
        tmp_path.chmod(0o500)
        with pytest.raises(CheckpointError, match="Permission denied"):
            save_checkpoint(tmp_path / "checkpoint", checkpoint())
        tmp_path.chmod(0o700)


def test_what_a_killed_save_left_behind_does_not_disturb(path):
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(b"half" * 10_000)
    with pytest.raises(CheckpointError, match="can be read"):
        load_checkpoint(path)
    save_checkpoint(path, checkpoint())
    assert_same(load_checkpoint(path), checkpoint())
    assert not temporary.exists()


SAVES_FOR_EVER = """
import itertools, sys
from pathlib import Path
import numpy as np
from fedhq.fl_core.records.checkpoint import Checkpoint, save_checkpoint

for number in itertools.count(1):
    server = {"weights/w": np.full(300_000, number, np.float32)}
    checkpoint = Checkpoint(round_number=number, simulated_seconds=0.0, server=server)
    save_checkpoint(Path(sys.argv[1]), checkpoint)
"""


def test_a_process_killed_while_saving_leaves_a_whole_checkpoint(path):
    rng, rounds = np.random.default_rng(0), []
    for _ in range(3):
        path.unlink(missing_ok=True)
        child = subprocess.Popen([sys.executable, "-c", SAVES_FOR_EVER, str(path)])
        try:
            deadline = time.monotonic() + 120
            while not path.exists():
                assert time.monotonic() < deadline, "it never saved"
                time.sleep(0.002)
            for _ in range(10):  # the file is whole at any time, not only after the end
                load_checkpoint(path)
                time.sleep(rng.uniform(0, 0.02))
        finally:
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        loaded = load_checkpoint(path)
        assert (loaded.weights["w"] == loaded.round_number).all()
        rounds.append(loaded.round_number)
    assert max(rounds) > 1
    save_checkpoint(path, checkpoint())
    assert_same(load_checkpoint(path), checkpoint())
