"""What a person sees of a run that trains: a bar, or a line now and then."""

from pathlib import Path

from run_records import whole_round

from fedhq.fl_core.callbacks import RunInfo, ShowProgress
from fedhq.fl_core.callbacks.meter import Meter


def test_without_a_terminal_a_line_comes_now_and_then_and_at_the_end(capsys) -> None:
    now = [0.0]
    with Meter(clock=lambda: now[0]) as meter:
        for now[0], done in ((1, 1), (29, 2), (31, 3), (40, 4), (62, 5), (63, 9), (64, 9)):
            meter.show("text", done, 9)
    told = capsys.readouterr().err.splitlines()
    assert told == [f"fedhq: text, {d} of 9 rounds, {s} s" for d, s in ((3, 31), (5, 62), (9, 63))]


def train(callback: ShowProgress) -> None:
    callback.on_start(RunInfo(Path("run"), 3, 1, {}))
    callback.on_round(*whole_round(2))
    callback.on_round(*whole_round(3, deployed_accuracy=None, simulated_seconds=83.25))
    callback.on_end({})
    callback.close()


def test_the_last_line_tells_accuracy_time_and_updates(capsys) -> None:
    train(ShowProgress())
    told = "fedhq: deployed 0.200, 83.25 simulated s, 2/3 used, 3 of 3 rounds, 0 s\n"
    assert capsys.readouterr().err == told


def test_quiet_says_nothing(capsys) -> None:
    train(ShowProgress(quiet=True))
    printed = capsys.readouterr()
    assert printed.err + printed.out == ""


def test_a_run_that_broke_before_it_began_can_be_closed() -> None:
    ShowProgress().close()


def test_a_terminal_has_a_bar(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    train(ShowProgress())
    told = capsys.readouterr().err
    assert "deployed 0.200" in told
    assert "3/3" in told
    assert "fedhq: " not in told
