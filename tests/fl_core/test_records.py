"""Records of a run: what is written, what is read back, and what a killed process leaves."""

import json
import math

import numpy as np
import pytest

from fedhq.allocator.errors import CheckpointError
from fedhq.fl_core.records.recorder import (
    CLIENTS_FILE,
    ROUNDS_FILE,
    WALL_FILE,
    RunRecorder,
    read_clients,
    read_rounds,
)
from fedhq.fl_core.records.records import ClientRecord, RoundRecord, WallRecord

FILES = (ROUNDS_FILE, CLIENTS_FILE, WALL_FILE)


def round_record(number, **changes):
    values = {
        "round": number,
        "simulated_seconds": number * 0.1,
        "round_seconds": 0.1,
        "waiting_seconds": 0.0,
        "deployed_accuracy": None if number % 2 else 1 / 3,
        "float_accuracy": None,
        "client_accuracy": None,
        "worst_accuracy": 0.25,
        "uplink_bytes": 2**40,
        "downlink_bytes": 7,
        "energy_joules": 1.5,
        "planned_loss": 1e-17,
        "bottleneck": None,
        "learning_rate": 0.1,
        "selected": 3,
        "used": 2,
    }
    return RoundRecord(**(values | changes))


def client_record(number, client, **changes):
    values = {
        "round": number,
        "client": client,
        "strategy": "qat-w2a2",
        "status": "ok",
        "reason": None,
        "num_examples": 10 * client,
        "seconds": 0.5,
        "uplink_bytes": 100,
        "downlink_bytes": 200,
        "energy_joules": 0.0,
        "train_loss": 0.25,
        "share": 0.5,
        "staleness": 0,
    }
    return ClientRecord(**(values | changes))


def client_records(number, count=3):
    return [client_record(number, k) for k in range(count)]


def wall(number):
    return WallRecord(
        round=number,
        plan_seconds=0.01,
        train_seconds=1.5,
        server_seconds=0.1,
        evaluate_seconds=0.2,
        save_seconds=0.3,
        client_seconds=(0.5, 1, np.float32(0)),
    )


def record(folder, rounds):
    recorder = RunRecorder(folder)
    for number in rounds:
        recorder.append(round_record(number), client_records(number), wall(number))
    return recorder


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


# --- Writing and reading ---


def test_what_is_appended_is_read_back(tmp_path):
    record(tmp_path / "new" / "run", range(1, 6))
    assert read_rounds(tmp_path / "new" / "run") == [round_record(k) for k in range(1, 6)]
    expected = [c for k in range(1, 6) for c in client_records(k)]
    assert read_clients(tmp_path / "new" / "run") == expected


def test_the_lines_are_pinned(tmp_path):
    record(tmp_path, [2])
    assert contents(tmp_path)[ROUNDS_FILE] == (
        b'{"round":2,"simulated_seconds":0.2,"round_seconds":0.1,"waiting_seconds":0.0,'
        b'"deployed_accuracy":0.3333333333333333,"float_accuracy":null,"client_accuracy":null,'
        b'"worst_accuracy":0.25,"uplink_bytes":1099511627776,"downlink_bytes":7,'
        b'"energy_joules":1.5,"planned_loss":1e-17,"bottleneck":null,"learning_rate":0.1,'
        b'"selected":3,"used":2}\n'
    )
    assert contents(tmp_path)[CLIENTS_FILE].splitlines()[1] == (
        b'{"round":2,"client":1,"strategy":"qat-w2a2","status":"ok","reason":null,'
        b'"num_examples":10,"seconds":0.5,"uplink_bytes":100,"downlink_bytes":200,'
        b'"energy_joules":0.0,"train_loss":0.25,"share":0.5,"staleness":0}'
    )
    assert json.loads(contents(tmp_path)[WALL_FILE])["client_seconds"] == [0.5, 1.0, 0.0]


def test_floats_read_back_to_the_last_bit(tmp_path):
    rng, recorder = np.random.default_rng(0), RunRecorder(tmp_path)
    values = [*(rng.normal(size=50) * 10.0 ** rng.integers(-300, 300, 50)), 5e-324, -0.0, 0.1 + 0.2]
    for number, value in enumerate(values):
        recorder.append(round_record(number, planned_loss=value), [], wall(number))
    got = [r.planned_loss for r in read_rounds(tmp_path)]
    assert [math.copysign(1, a) for a in got] == [math.copysign(1, b) for b in values]
    assert got == values


def test_numpy_numbers_and_whole_floats_give_the_same_bytes(tmp_path):
    plain = round_record(3, bottleneck=4, round_seconds=2.0)
    numpy = round_record(np.int64(3), bottleneck=np.int32(4), round_seconds=np.float64(2))
    whole = round_record(3, bottleneck=4, round_seconds=2)
    for name, one in {"a": plain, "b": numpy, "c": whole}.items():
        RunRecorder(tmp_path / name).append(one, [], wall(3))
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planned_loss": math.nan}, "`planned_loss` must be finite"),
        ({"deployed_accuracy": math.inf}, "`deployed_accuracy` must be finite"),
        ({"uplink_bytes": 1.5}, "`uplink_bytes` must be of type int, but got 1.5"),
        ({"uplink_bytes": -1}, "`uplink_bytes` must be finite, and >= 0"),
        ({"uplink_bytes": None}, "`uplink_bytes`"),
        ({"round": True}, "`round`"),
        ({"learning_rate": None}, "`learning_rate`"),
        ({"learning_rate": "0.1"}, "`learning_rate`"),
        ({"bottleneck": "phone"}, r"`bottleneck` must be of type int \| None"),
    ],
)
def test_a_record_refuses_wrong_values(changes, message):
    with pytest.raises(ValueError, match=message):
        round_record(1, **changes)


def test_a_client_record_refuses_an_unknown_status():
    with pytest.raises(ValueError, match=r"`status` must be one of .*'lost'"):
        client_record(1, 0, status="lost")
    with pytest.raises(ValueError, match="`strategy`"):
        client_record(1, 0, strategy=None)


def test_records_of_different_rounds_are_refused_and_nothing_is_written(tmp_path):
    recorder = RunRecorder(tmp_path)
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        recorder.append(round_record(1), client_records(2), wall(1))
    assert list(tmp_path.iterdir()) == []


# --- Resuming ---


def test_truncated_and_continued_is_byte_identical_to_uninterrupted(tmp_path):
    record(tmp_path / "whole", range(1, 9))
    record(tmp_path / "resumed", range(1, 7))
    with (tmp_path / "resumed" / ROUNDS_FILE).open("ab") as file:
        file.write(b'{"round":7,"simu')
    recorder = RunRecorder(tmp_path / "resumed")
    recorder.truncate(4)
    assert [r.round for r in read_rounds(tmp_path / "resumed")] == [1, 2, 3, 4]
    assert {c.round for c in read_clients(tmp_path / "resumed")} == {1, 2, 3, 4}
    for number in range(5, 9):
        recorder.append(round_record(number), client_records(number), wall(number))
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def test_round_zero_keeps_nothing_and_makes_the_files(tmp_path):
    record(tmp_path, [1, 2]).truncate(0)
    assert read_rounds(tmp_path) == read_clients(tmp_path) == []
    RunRecorder(tmp_path / "new").truncate(0)
    assert read_rounds(tmp_path / "new") == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_short_or_foreign_file_is_an_error_and_no_file_is_touched(tmp_path, name):
    recorder = record(tmp_path, [1, 2, 3])
    before = contents(tmp_path)
    path = tmp_path / name
    for damaged in (b"", b"{}\n", before[name][: before[name].index(b"\n") + 1]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f"{name} holds round 3"):
            recorder.truncate(3)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{name} can be read"):
        recorder.truncate(3)
    assert not path.exists()
    path.write_bytes(before[name])
    assert contents(tmp_path) == before


# --- Killed processes and damaged files ---


def test_every_cut_loses_at_most_the_last_line(tmp_path):
    record(tmp_path, [1, 2, 3])
    path = tmp_path / ROUNDS_FILE
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        assert len(read_rounds(tmp_path)) == whole[:size].count(b"\n")


@pytest.mark.parametrize("half", [b"{", b'{"round":2'])
def test_nothing_is_appended_behind_half_a_line(tmp_path, half):
    (tmp_path / ROUNDS_FILE).write_bytes(half)
    with pytest.raises(CheckpointError, match=r"rounds\.jsonl ends in a whole line.*truncate"):
        record(tmp_path, [2])
    assert (tmp_path / ROUNDS_FILE).read_bytes() == half


def broken_lines():
    whole = json.loads(
        '{"round":2,"simulated_seconds":0.2,"round_seconds":0.1,"deployed_accuracy":null,'
        '"float_accuracy":null,"uplink_bytes":1,"downlink_bytes":7,"planned_loss":0.5,'
        '"bottleneck":null,"learning_rate":0.1}'
    )
    yield b""
    yield b"null"
    yield b"\xff"
    yield b"[" * 100_000
    yield json.dumps(whole).encode()[:-5]
    yield json.dumps(list(whole.items())).encode()
    yield json.dumps(dict(reversed(whole.items()))).encode()
    yield json.dumps({**whole, "more": 1}).encode()
    yield json.dumps({**whole, "round": "2"}).encode()
    yield json.dumps({**whole, "round": {}}).encode()
    yield json.dumps({**whole, "planned_loss": math.nan}).encode()
    yield json.dumps({**whole, "planned_loss": 10**400}).encode()
    yield b'{"round":1,' + json.dumps(whole).encode()[1:]


@pytest.mark.parametrize("line", list(broken_lines()), ids=range(13))
def test_any_other_damage_names_file_and_line(tmp_path, line):
    record(tmp_path, [1, 2, 3])
    path = tmp_path / ROUNDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + line + b"\n" + lines[2])
    with pytest.raises(CheckpointError, match=r"line 2 of .*rounds\.jsonl"):
        read_rounds(tmp_path)


def test_what_the_system_refuses_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"rounds\.jsonl can be read"):
        read_rounds(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="file can be made"):
        RunRecorder(tmp_path / "file")
    recorder = RunRecorder(tmp_path)
    (tmp_path / ROUNDS_FILE).symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"rounds\.jsonl can be written.*No space"):
        recorder.append(round_record(1), [], wall(1))
