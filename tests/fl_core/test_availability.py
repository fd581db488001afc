"""When clients are online: against spans written out, and consistent at every boundary."""

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest

from fedhq.allocator.hardware import DeviceProfile
from fedhq.fl_core.fleet.fleet import Fleet
from fedhq.fl_core.fleet.sessions import draw_windows
from fedhq.fl_core.fleet.windows import Windows
from fedhq.fl_core.settings import AvailabilitySettings

DEVICE = DeviceProfile("d", 1.0, 1e6, 1e6)
PERIODS = 6


def fleet_of(*windows: Windows) -> Fleet:
    return Fleet([DEVICE] * len(windows), windows)


def written_out(windows: Windows) -> list[tuple[float, float]]:
    """The spans of the first periods, joined where one ends as the next begins."""
    period, joined = windows.period_seconds, []
    turns = range(PERIODS) if math.isfinite(period) else [0]
    for shift in (k * period if k else 0.0 for k in turns):
        for begin, end in windows.spans:
            touches = bool(joined) and joined[-1][1] == shift + begin
            joined.append((joined.pop()[0] if touches else shift + begin, shift + end))
    return joined


def drawn(rng: np.random.Generator) -> Windows:
    """Windows at whole seconds of a period of 40, often touching its ends, or without one."""
    edges = np.sort(rng.choice(41, 2 * rng.integers(0, 5), replace=False)).reshape(-1, 2)
    return Windows(map(tuple, edges.tolist()), 40 if rng.random() < 0.8 else math.inf)


def test_every_answer_is_that_of_the_spans_written_out() -> None:
    rng = np.random.default_rng(0)
    windows = [drawn(rng) for _ in range(60)]
    fleet = fleet_of(*windows)
    for now in (0.0, *rng.integers(0, 80, 25).tolist(), *rng.uniform(0, 80, 15).tolist()):
        online = fleet.available(now)
        nexts = []
        for i, w in enumerate(windows):
            spans = written_out(w)
            current = [end for start, end in spans if start <= now < end]
            following = [start for start, _ in spans if start > now]
            assert online[i] == fleet.is_available(i, now) == bool(current)
            assert fleet.until(i, now) == (current or [now])[0]
            assert fleet.online_seconds([i], now).tolist() == [fleet.until(i, now) - now]
            nexts.append(now if current else min(following, default=math.inf))
            assert fleet.next_available(now, [i]) == nexts[-1]
        some = rng.choice(60, 5, replace=False)
        assert fleet.next_available(now, some) == min(nexts[i] for i in some)
        assert fleet.next_available(now) == min(nexts)


def test_boundaries_that_are_returned_are_reached_whatever_is_rounded() -> None:
    """Who waits until `next_available` finds the client online, and never waits forever."""
    settings = AvailabilitySettings(0.3, 100.0 / 7, 1000.0 / 3)
    fleet = fleet_of(*draw_windows(settings, 20, np.random.default_rng(1)))
    for client in range(20):
        now = 1e7 + client / 3
        for _ in range(40):
            now = fleet.next_available(now, [client])
            assert fleet.is_available(client, now)
            end = fleet.until(client, now)
            assert end > now
            assert not fleet.is_available(client, end)
            now = end


def test_without_windows_everybody_is_always_online_and_never_means_never() -> None:
    fleet = Fleet([DEVICE] * 2)
    assert fleet.available(1e9).all()
    assert fleet.until(1, 5.0) == math.inf
    nobody = fleet_of(Windows([]), Windows.parse("5:9"))
    assert nobody.next_available(6.0, [0]) == nobody.next_available(10.0) == math.inf
    assert nobody.next_available(0.0) == 5.0
    assert nobody.next_available(0.0, []) == math.inf


def test_windows_are_merged_and_survive_their_text() -> None:
    w = Windows([(7, 9), (1, 3), (3, 5), (4, 6)], 10)
    assert w.spans == ((1, 6), (7, 9))
    assert w.share == pytest.approx(0.7)
    for windows in (w, Windows([]), Windows.always(), Windows([(0.1, 1 / 3)], 0.7)):
        assert Windows.parse(str(windows)) == windows
    assert Windows([(0, 5), (5, 10)], 10) == Windows.always()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("5", "`online` must be"),
        ("sometimes", "`online` must be"),
        ("1:2 per day", "`online` must be"),
        ("5:3", "start < end"),
        ("0:nan", "start < end"),
        ("0:11 per 10", "period of 10 s. Split"),
        ("1:2 per 0", "`period_seconds > 0`"),
    ],
)
def test_impossible_windows_are_refused(text, part) -> None:
    with pytest.raises(ValueError, match=part):
        Windows.parse(text)


def test_impossible_questions_are_refused() -> None:
    fleet = Fleet([DEVICE] * 2)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="`simulated_seconds` must be finite"):
            fleet.available(bad)
    for client in (-1, 2):
        with pytest.raises(ValueError, match=r"must be in 0 ... 1, but got"):
            fleet.is_available(client, 0.0)
    with pytest.raises(ValueError, match="as many as devices, but got 1 for 2"):
        Fleet([DEVICE] * 2, [Windows.always()])


def test_sessions_have_their_share_exactly_and_their_mean_length() -> None:
    settings = AvailabilitySettings(0.25, 600.0, 24_000.0)
    windows = draw_windows(settings, 50, np.random.default_rng(0))
    assert np.allclose([w.share for w in windows], 0.25, rtol=1e-9)
    lengths = [end - start for w in windows for start, end in written_out(w)[2:-2]]
    assert np.mean(lengths) == pytest.approx(600, rel=0.1)
    assert np.std(lengths) == pytest.approx(600, rel=0.2)  # exponential
    now = np.mean([fleet_of(*windows).available(t).mean() for t in range(0, 24_000, 480)])
    assert now == pytest.approx(0.25, abs=0.02)
    assert draw_windows(AvailabilitySettings(1.0), 2, np.random.default_rng(0)) == (
        (Windows.always(),) * 2
    )
    with pytest.raises(ValueError, match=r"sessions of a period.*but got 0.5"):
        AvailabilitySettings(0.5, 100.0, 100.0)


def lines_run(task: Callable[[], object]) -> int:
    """How many lines of Python a task takes, each turn of a loop anew."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        task()
    finally:
        sys.settrace(before)
    return count


def test_a_hundred_thousand_clients_are_asked_at_once() -> None:
    """No loop of Python goes over clients: of ten milliseconds that would make a second."""
    own = draw_windows(AvailabilitySettings(0.3), 1000, np.random.default_rng(0))
    few, many = fleet_of(*own), fleet_of(*own * 100)
    for now in np.linspace(0, 1e5, 10):
        assert (many.available(now).reshape(100, 1000) == few.available(now)).all()
    assert 5 < lines_run(lambda: few.available(1e4)) == lines_run(lambda: many.available(1e4))
    assert lines_run(lambda: [few.is_available(i, 1e4) for i in range(1000)]) > 1000
