"""Following a run's records while they grow, are cut back, or have not begun."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from run_records import client_records, wall_record, whole_round

from fedhq.allocator.errors import CheckpointError
from fedhq.fl_core.records.follow import RunFollower, follow
from fedhq.fl_core.records.recorder import CLIENTS_FILE, ROUNDS_FILE, RunRecorder


def numbers(follower: RunFollower) -> list[int]:
    return [followed.record.round for followed in follower.new_rounds()]


def record(folder: Path, *rounds: int, **changes: object) -> None:
    recorder = RunRecorder(folder)
    for number in rounds:
        recorder.append(*whole_round(number, **changes))


def test_each_round_comes_once_with_what_its_clients_did(tmp_path) -> None:
    folder, follower = tmp_path / "run", RunFollower(tmp_path / "run")
    assert numbers(follower) == []
    record(folder, 1, 2)
    first, second = follower.new_rounds()
    assert (second.record, list(second.clients), second.wall) == whole_round(2)
    assert list(first.clients) == client_records(1)
    assert numbers(follower) == []
    record(folder, 3)
    (third,) = follower.new_rounds()
    assert list(third.clients) == client_records(3)
    assert third.wall == wall_record(3)


def test_half_a_line_waits_for_its_other_half(tmp_path) -> None:
    record(tmp_path, 1, 2)
    path, follower = tmp_path / ROUNDS_FILE, RunFollower(tmp_path)
    whole = path.read_bytes()
    for cut in (1, 20, len(whole) // 2 - 1):
        path.write_bytes(whole[:-cut])
        assert numbers(follower) == ([1] if cut == 1 else [])
    path.write_bytes(whole)
    assert numbers(follower) == [2]


def test_a_resumed_run_goes_on_and_what_was_cut_comes_again_if_it_differs(tmp_path) -> None:
    record(tmp_path, 1, 2, 3, 4)
    follower = RunFollower(tmp_path)
    assert numbers(follower) == [1, 2, 3, 4]
    RunRecorder(tmp_path).truncate(2)
    assert numbers(follower) == []
    record(tmp_path, 3, deployed_accuracy=0.77)
    (again,) = follower.new_rounds()
    assert again.record.deployed_accuracy == 0.77
    assert list(again.clients) == client_records(3)
    RunRecorder(tmp_path).truncate(2)  # this time nobody looks before it is longer than before
    record(tmp_path, 3, 4, 5)
    assert numbers(follower) == [3, 4, 5]
    RunRecorder(tmp_path).truncate(4)
    record(tmp_path, 5, 6)  # equal bytes: nothing to say again
    assert numbers(follower) == [6]
    RunRecorder(tmp_path).truncate(0)
    record(tmp_path, 1, planned_loss=0.75)
    assert numbers(follower) == [1]


def test_clients_of_a_round_that_was_never_recorded_are_left_out(tmp_path) -> None:
    record(tmp_path, 1)
    follower = RunFollower(tmp_path)
    assert numbers(follower) == [1]
    path = tmp_path / CLIENTS_FILE
    whole = path.read_bytes()
    record(tmp_path, 2)
    killed = path.read_bytes()[:-30]
    RunRecorder(tmp_path).truncate(1)
    path.write_bytes(killed)
    assert numbers(follower) == []
    path.write_bytes(whole)
    record(tmp_path, 2, 3)
    assert [list(f.clients) for f in follower.new_rounds()] == [
        client_records(2),
        client_records(3),
    ]


def test_a_damaged_line_is_named(tmp_path) -> None:
    record(tmp_path, 1)
    with (tmp_path / ROUNDS_FILE).open("ab") as file:
        file.write(b'{"round":2}\n')
    with pytest.raises(CheckpointError, match=r"`every line is a RoundRecord`.*\"round\":2"):
        numbers(RunFollower(tmp_path))


def test_missing_clients_are_named(tmp_path) -> None:
    record(tmp_path, 1)
    (tmp_path / CLIENTS_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"clients\.jsonl"):
        numbers(RunFollower(tmp_path))


def test_what_another_process_writes_comes_in_order_until_told_to_end(tmp_path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from run_records import whole_round\n"
        "from fedhq.fl_core.records.recorder import RunRecorder\n"
        "recorder = RunRecorder(Path(sys.argv[1]))\n"
        "for number in range(1, 41):\n"
        "    recorder.append(*whole_round(number)); time.sleep(0.002)\n"
    )
    stop, seen = threading.Event(), []
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], cwd=Path(__file__).parents[1]
    )
    timer = threading.Timer(30, stop.set)  # if the writer fails
    timer.start()
    for followed in follow(tmp_path / "run", 0.005, stop):
        assert list(followed.clients) == client_records(followed.record.round)
        seen.append(followed.record.round)
        if len(seen) == 40:
            stop.set()
    timer.cancel()
    assert writer.wait() == 0
    assert seen == list(range(1, 41))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_time_between_looks_must_be_a_time(tmp_path, seconds) -> None:
    with pytest.raises(ValueError, match="`poll_seconds > 0`"):
        follow(tmp_path, seconds)
