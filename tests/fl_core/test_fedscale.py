"""FedScale's pickles become a fleet, and nothing that a pickle asks for is run."""

import math
import os
import pickle
import tracemalloc

import pytest

from fedhq.fl_core.fleet import fedscale
from fedhq.fl_core.fleet.fedscale import read_fedscale
from fedhq.fl_core.fleet.windows import Windows

SPEEDS = {
    7: {"computation": 162.0, "communication": 5648.0},
    2: {"computation": 97, "communication": 80.0},
    9: {"computation": 54.0, "communication": 16000.0},
}
SESSIONS = {
    3834: {
        "duration": 211625,
        "inactive": [65881, 133574, 600000],
        "finish_time": 518400,
        "active": [12788, 133574, 441193],
        "model": "CPH1801",
    },
    5: {"duration": 1, "inactive": [1], "finish_time": 9, "active": [0], "model": None},
}


def write(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_speeds_count_relative_to_the_median_and_sessions_go_round(tmp_path, protocol) -> None:
    speeds = write(tmp_path / "speeds", SPEEDS, protocol)
    sessions = write(tmp_path / "sessions", SESSIONS, protocol)
    fleet = read_fedscale(speeds, sessions, median_slowdown=10.0)
    assert [d.slowdown for d in fleet.devices] == pytest.approx([10, 1620 / 97, 540 / 97])
    assert fleet.devices[0].uplink_bytes_per_second == 80_000 / 8
    assert [d.device_class for d in fleet.devices] == ["device", "CPH1801", "device"]
    short, long = Windows([(0, 1)], 9), Windows([(12788, 65881), (441193, 518400)], 518400)
    assert fleet.windows == (short, long, short)
    first = read_fedscale(speeds, num_clients=1)
    assert [d.slowdown for d in first.devices] == [1.0]
    assert first.windows == (Windows.always(),)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_makes_a_folder_makes_none(tmp_path, protocol) -> None:
    made = tmp_path / "made"
    bad = write(tmp_path / "bad", SPEEDS | {1: Calls(os.mkdir, str(made))}, protocol)
    good = write(tmp_path / "good", SPEEDS)
    for paths in ((bad,), (good, bad)):
        with pytest.raises(ValueError, match=r"bad must be .* it names \w+.mkdir, which is no"):
            read_fedscale(*paths)
        assert not made.exists()
    pickle.loads(bad.read_bytes())  # what it would have done
    assert made.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"(S'x'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'x'\no.",  # OBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"Pname\n.",  # PERSID
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".",  # bytes of a terabyte
        b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"",
        b"\x80\x09.",
        pickle.dumps([SPEEDS]),
        pickle.dumps({}),
        pickle.dumps({"a": {}, 1: {}}),
        pickle.dumps({1: 2}),
    ],
)
def test_other_ways_to_name_or_break_things_are_refused(tmp_path, content) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="bad must be a pickled dictionary"):
        read_fedscale(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r" + (2**26).to_bytes(4, "little") + b".",  # a place in the memo
        b"\x80\x02}p67108864\n.",
        b"\x80\x04\x96" + (2**28).to_bytes(8, "little") + b".",  # an array of bytes
    ],
)
def test_a_few_bytes_get_no_gigabyte(tmp_path, content) -> None:
    """The first takes one where it is not looked at before."""
    path = tmp_path / "bad"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="bad must be a pickled dictionary"):
            read_fedscale(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_cut_off_pickles_are_refused(tmp_path) -> None:
    whole = pickle.dumps(SPEEDS)
    for end in range(0, len(whole), 5):
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="cut must be a pickled dictionary"):
            read_fedscale(tmp_path / "cut")


@pytest.mark.parametrize("value", [None, 0, -1.0, math.nan, math.inf, 10**400, True, "5", [1]])
def test_impossible_speeds_are_refused(tmp_path, value) -> None:
    path = write(tmp_path / "bad", {4: {"computation": value, "communication": 1.0}})
    with pytest.raises(ValueError, match="bad: `computation` of client 4 must be a finite"):
        read_fedscale(path)


@pytest.mark.parametrize("change", [{"active": [1]}, {"active": ["x"] * 3}, {"finish_time": 0}])
def test_impossible_sessions_are_refused(tmp_path, change) -> None:
    speeds = write(tmp_path / "speeds", SPEEDS)
    bad = write(tmp_path / "bad", {1: SESSIONS[3834] | change})
    with pytest.raises(ValueError, match=f"bad: `{next(iter(change))}` of client 1 must be"):
        read_fedscale(speeds, bad)


def test_reading_is_bounded(tmp_path, monkeypatch) -> None:
    speeds = write(tmp_path / "speeds", SPEEDS)
    times = list(range(0, 3000, 2))
    laugh = {"active": times, "inactive": [t + 1 for t in times], "finish_time": 3000}
    sessions = write(tmp_path / "bomb", dict.fromkeys(range(3), laugh))
    assert len(read_fedscale(speeds, sessions)) == 3
    monkeypatch.setattr(fedscale, "_MOST_WINDOWS", 2000)
    with pytest.raises(ValueError, match=r"bomb: `active` of client 1 must be .*not endless"):
        read_fedscale(speeds, sessions)
    monkeypatch.setattr(fedscale, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match=r"speeds: `size <= 0 MiB` must hold"):
        read_fedscale(speeds)


def test_impossible_numbers_are_refused(tmp_path) -> None:
    path = write(tmp_path / "speeds", SPEEDS)
    for change in ({"median_slowdown": 0.0}, {"num_clients": 0}, {"median_slowdown": math.inf}):
        with pytest.raises(ValueError, match="`median_slowdown > 0` and `num_clients >= 1`"):
            read_fedscale(path, **change)
