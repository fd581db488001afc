"""`fedhq watch` beside another process that trains: what it shows, and when it ends."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from run_records import client_records, round_record, whole_round

from fedhq.fl_core.records.recorder import ROUNDS_FILE, RunRecorder
from fedhq.studies.entry import main
from fedhq.studies.watch import WatchedRun
from fedhq.studies.watch_view import Snapshot, view


def begin(folder: Path, rounds: int, **training: object) -> RunRecorder:
    recorder = RunRecorder(folder)
    config = {"training": {"rounds": rounds, **training}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return recorder


def record(recorder: RunRecorder, *rounds: int, **changes: object) -> None:
    for number in rounds:
        recorder.append(*whole_round(number, **changes))


def shown(run: Snapshot, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(view(run))
    return capture.get()


def snapshot(**changes: object) -> Snapshot:
    values = {
        "name": "runs/mine",
        "rounds_total": 30,
        "is_complete": False,
        "rounds": tuple(round_record(k) for k in range(1, 9)),
        "clients": tuple(client_records(8)),
        "round_wall_seconds": 90.0,
        "idle_seconds": 4.0,
    }
    return Snapshot(**(values | changes))


# --- What it shows ---


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel_tells_how_the_run_stands(width) -> None:
    lines = shown(snapshot(), width).splitlines()
    assert all(len(line) == width for line in lines)
    text = "\n".join(" ".join(line.strip("│╭╮╰╯─ ").split()) for line in lines)
    for part in (
        "8 of 30 rounds",
        "simulated time 16 s, last round 2 s",
        "accuracy deployed 0.800, best 0.800 ▁▂▃▄▅▆▇█",
        "accuracy worst tenth 0.250, best 0.250 ▁▁▁▁▁▁▁▁",
        "bytes up 8 kB, last round 1 kB",
        "bytes down 24 kB, last round 3 kB",
        "updates used 2 of 3 clients in round 8",
        "strategies ptq-w2a2 1, qat-w2a2 1, skip 1",
        "statuses ok 2, skipped 1",
        "slowest client 1, 2 s, ptq-w2a2, ok",
        "pace 1 min 30 s a round, about 33 min 00 s to go",
        "last round came 4 s ago",
    ):
        assert part in text
    assert "in float" not in text  # never measured
    assert "still running" not in text


def test_the_panel_asks_about_a_run_that_has_long_been_silent() -> None:
    silent = snapshot(idle_seconds=901.0)
    assert "15 min 01 s ago  is it still running?" in shown(silent)
    assert "still running" not in shown(snapshot(idle_seconds=899.0))
    assert "still running" not in shown(snapshot(idle_seconds=901.0, is_complete=True))


def test_a_name_with_brackets_is_no_markup_and_nothing_needs_to_be_known() -> None:
    text = shown(
        snapshot(
            name="runs/[red]",
            rounds_total=None,
            rounds=(),
            clients=(),
            round_wall_seconds=None,
            idle_seconds=None,
        )
    )
    assert "runs/[red]" in text
    assert "none yet" in text


def test_rounds_that_a_resumed_run_trains_again_replace_those_before(tmp_path) -> None:
    recorder = begin(tmp_path, 9)
    record(recorder, 1, 2, 3, 4)
    watched = WatchedRun(tmp_path)
    watched.update()
    recorder.truncate(2)
    record(recorder, 3, deployed_accuracy=0.77)
    watched.update()
    now = watched.snapshot()
    assert [r.deployed_accuracy for r in now.rounds] == [0.1, 0.2, 0.77]
    assert (now.rounds_total, now.is_complete, now.round_wall_seconds) == (9, False, 2.0625)


# --- The command ---


def lines_of(capsys) -> list[dict[str, str]]:
    printed = capsys.readouterr().out.splitlines()
    return [dict(pair.split("=", 1) for pair in line.split(" ")) for line in printed]


def test_without_a_terminal_each_round_is_a_line_of_keys(tmp_path, capsys) -> None:
    record(begin(tmp_path, 5), 1, 2)
    assert main(["watch", str(tmp_path), "--once"]) == 0
    first, second = lines_of(capsys)
    assert (first["round"], second["round"], second["of"]) == ("1", "2", "5")
    assert (second["deployed_accuracy"], second["float_accuracy"]) == ("0.2000", "-")
    assert second["strategies"] == "ptq-w2a2:1,qat-w2a2:1,skip:1"
    assert (second["statuses"], second["slowest"]) == ("ok:2,skipped:1", "1")
    assert (second["uplink_bytes"], second["used"], second["selected"]) == ("1000", "2", "3")


def test_it_ends_with_the_run_that_another_process_writes(tmp_path, capsys) -> None:
    begin(tmp_path, 12)
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom run_records import whole_round\n"
        "from fedhq.fl_core.records.recorder import RunRecorder\n"
        "recorder = RunRecorder(Path(sys.argv[1]))\n"
        "for number in range(1, 13):\n"
        "    recorder.append(*whole_round(number)); time.sleep(0.01)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    writer = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    assert main(["watch", str(tmp_path), "--every", "0.02"]) == 0
    assert [line["round"] for line in lines_of(capsys)] == [str(k) for k in range(1, 13)]
    assert writer.wait() == 0


def test_it_ends_where_the_run_stops_early(tmp_path, capsys) -> None:
    record(begin(tmp_path, 30, stop_at_accuracy=0.3), 1, 2, 3)
    assert main(["watch", str(tmp_path)]) == 0
    assert len(lines_of(capsys)) == 3


def test_it_knows_the_rounds_of_a_comparisons_run(tmp_path, capsys) -> None:
    folder = tmp_path / "default" / "all-QAT" / "seed-3"
    runs = [
        {
            "scenario": "default",
            "arm": "all-QAT",
            "seed": seed,
            "configuration": {"training": {"rounds": seed}},
        }
        for seed in (2, 3)
    ]
    (tmp_path / "config.json").write_text(json.dumps({"runs": runs}), encoding="utf-8")
    record(RunRecorder(folder), 1, 2, 3)
    assert main(["watch", str(folder)]) == 0
    assert [line["of"] for line in lines_of(capsys)] == ["3"] * 3
    assert main(["watch", str(tmp_path)]) == 2
    assert "SCENARIO/ARM/seed-0" in capsys.readouterr().err


def test_in_a_terminal_it_shows_the_panel_until_ctrl_c(tmp_path) -> None:
    record(begin(tmp_path, 5), 1, 2)
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "fedhq.studies", "watch", str(tmp_path), "--every", "0.02"]
    environment = os.environ | {"COLUMNS": "80", "LINES": "30", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=inside, stderr=inside, env=environment)
    os.close(inside)
    timer = threading.Timer(30, process.kill)
    timer.start()
    text, added = "", False
    while "3 of 5 rounds" not in text:
        text += os.read(terminal, 65536).decode("utf-8", "replace")
        if "2 of 5 rounds" in text and not added:
            record(RunRecorder(tmp_path), 3)
            added = True
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    timer.cancel()
    os.close(terminal)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere"], ["nowhere must be the folder of a run", ROUNDS_FILE, "fedhq run"]),
        ([".", "--every", "0"], ["--every 0", "above 0"]),
        ([".", "--every", "nan"], ["--every nan"]),
    ],
)
def test_faults_are_told(tmp_path, monkeypatch, capsys, arguments, parts) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *arguments]) == 2
    told = capsys.readouterr().err
    for part in parts:
        assert part in told


def test_a_damaged_record_is_told(tmp_path, capsys) -> None:
    record(begin(tmp_path, 5), 1)
    with (tmp_path / ROUNDS_FILE).open("ab") as file:
        file.write(b"{}\n")
    assert main(["watch", str(tmp_path)]) == 2
    assert "every line is a RoundRecord" in capsys.readouterr().err


def test_it_starts_without_torch() -> None:
    code = (
        "import sys, fedhq.studies.watch\n"
        "heavy = {'torch', 'pydantic', 'cvxpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
