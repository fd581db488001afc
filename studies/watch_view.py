"""What `fedhq watch` shows: a panel for a terminal, a line a round for everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from ..allocator.explain.quantities import SECONDS, Unit
from ..fl_core.records.follow import FollowedRound
from ..fl_core.records.records import ClientRecord, RoundRecord

_BYTES = Unit.of("bytes")
_LEVELS = "▁▂▃▄▅▆▇█"
_SPARKS = 24
_ACCURACIES = (("deployed", "deployed"), ("float", "in float"), ("worst", "worst tenth"))
_STALLED_ROUNDS, _STALLED_SECONDS = 10, 60.0


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """How a run stands.

    Args:
        name: Of the run.
        rounds_total: Of the whole run; None where it is not known.
        is_complete: Whether the last round is done.
        rounds: All rounds that are done.
        clients: What the clients of the last round did.
        round_wall_seconds: Wall seconds of one of the latest rounds, on average; None before the
            first.
        idle_seconds: Wall seconds since the last round came; None before the first.
    """

    name: str
    rounds_total: int | None
    is_complete: bool
    rounds: tuple[RoundRecord, ...]
    clients: tuple[ClientRecord, ...]
    round_wall_seconds: float | None
    idle_seconds: float | None


def view(run: Snapshot, ascii_only: bool = False) -> Panel:
    """The panel.

    Args:
        run: How it stands.
        ascii_only: Whether the terminal cannot draw the small curves.
    """
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column()
    if run.rounds:
        _add_time(rows, run)
        _add_accuracies(rows, run.rounds, ascii_only)
        _add_bytes(rows, run.rounds)
        _add_clients(rows, run)
        _add_pace(rows, run)
    else:
        rows.add_row("rounds", "none yet")
    done = run.rounds[-1].round if run.rounds else 0
    total = run.rounds_total
    title = f"{done} rounds" if total is None else f"{done} of {total} rounds"
    bar = Table.grid(expand=True)  # a bar alone would not end its line
    if total is not None:
        bar.add_row(ProgressBar(total=total, completed=done))
    return Panel(
        Group(bar, rows),
        title=escape(run.name),
        subtitle=f"{title}, complete" if run.is_complete else title,
        box=box.ROUNDED,
        border_style="green" if run.is_complete else "none",
    )


def _add_time(rows: Table, run: Snapshot) -> None:
    last = run.rounds[-1]
    text = f"{SECONDS.text(last.simulated_seconds)}, last round {SECONDS.text(last.round_seconds)}"
    waited = sum(r.waiting_seconds for r in run.rounds)
    if waited > 0:
        text += f", nobody online for {SECONDS.text(waited)}"
    rows.add_row("simulated time", text)


def _add_accuracies(rows: Table, rounds: Sequence[RoundRecord], ascii_only: bool) -> None:
    for name, label in _ACCURACIES:
        values = [v for r in rounds if (v := getattr(r, f"{name}_accuracy")) is not None]
        if values:
            curve = "" if ascii_only else f"   [cyan]{sparkline(values)}[/]"
            text = f"[bold]{values[-1]:.3f}[/], best {max(values):.3f}{curve}"
            rows.add_row(f"accuracy {label}", text)


def _add_bytes(rows: Table, rounds: Sequence[RoundRecord]) -> None:
    for name, label in (("uplink_bytes", "bytes up"), ("downlink_bytes", "bytes down")):
        values = [getattr(r, name) for r in rounds]
        text = f"{_BYTES.text(sum(values))}, last round {_BYTES.text(values[-1])}"
        rows.add_row(label, text)


def _add_clients(rows: Table, run: Snapshot) -> None:
    last = run.rounds[-1]
    rows.add_row("updates used", f"{last.used} of {last.selected} clients in round {last.round}")
    if run.clients:
        rows.add_row("strategies", _counts(c.strategy for c in run.clients))
        rows.add_row("statuses", _counts(c.status for c in run.clients))
    slowest = slowest_client(run.clients)
    if slowest is not None:
        text = f"client {slowest.client}, {SECONDS.text(slowest.seconds)}"
        rows.add_row("slowest", f"{text}, {slowest.strategy}, {slowest.status}")


def _add_pace(rows: Table, run: Snapshot) -> None:
    last, pace, idle = run.rounds[-1], run.round_wall_seconds, run.idle_seconds
    if pace is not None:
        text = f"{duration(pace)} a round"
        if run.rounds_total is not None and not run.is_complete:
            text += f", about {duration(pace * (run.rounds_total - last.round))} to go"
        rows.add_row("pace", text)
    if idle is not None:
        text = f"{duration(idle)} ago"
        late = max(_STALLED_SECONDS, _STALLED_ROUNDS * (pace or 0.0))
        if idle > late and not run.is_complete:
            text += "  [yellow]is it still running?[/]"
        rows.add_row("last round came", text)


def round_line(followed: FollowedRound, rounds_total: int | None) -> str:
    """A round as one line of `key=value`, for scripts: `-` where there is no value."""
    record, clients = followed.record, followed.clients
    slowest = slowest_client(clients)
    values: dict[str, object] = {
        "round": record.round,
        "of": rounds_total,
        "simulated_seconds": f"{record.simulated_seconds:.6g}",
        "round_seconds": f"{record.round_seconds:.6g}",
        **{f"{name}_accuracy": getattr(record, f"{name}_accuracy") for name, _ in _ACCURACIES},
        "uplink_bytes": record.uplink_bytes,
        "downlink_bytes": record.downlink_bytes,
        "used": record.used,
        "selected": record.selected,
        "strategies": _counts((c.strategy for c in clients), ":", ","),
        "statuses": _counts((c.status for c in clients), ":", ","),
        "slowest": None if slowest is None else slowest.client,
    }
    return " ".join(f"{key}={_field(value)}" for key, value in values.items())


def slowest_client(clients: Sequence[ClientRecord]) -> ClientRecord | None:
    """The first of those that took longest; None if all were skipped."""
    slowest = max(clients, key=lambda c: c.seconds, default=None)
    return slowest if slowest is not None and slowest.seconds > 0 else None


def sparkline(values: Sequence[float], width: int = _SPARKS) -> str:
    """A curve of as many characters at most, from the least to the greatest value.

    Example:
        >>> sparkline([0.1, 0.5, 0.9]), sparkline([0.3, 0.3]), sparkline(range(100), 4)
        ('▁▅█', '▁▁', '▁▃▆█')
    """
    count = min(width, len(values))
    shown = [values[round((len(values) - 1) * k / max(1, count - 1))] for k in range(count)]
    low, span = min(shown), max(shown) - min(shown)
    steps = len(_LEVELS) - 1
    return "".join(_LEVELS[int((v - low) / span * steps + 0.5) if span else 0] for v in shown)


def duration(seconds: float) -> str:
    """Wall time in two units.

    Example:
        >>> duration(0.25), duration(3.2), duration(83), duration(7500), duration(400000)
        ('0.25 s', '3.2 s', '1 min 23 s', '2 h 05 min', '4 d 15 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.2g} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _field(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "-" if value is None or value == "" else str(value)


def _counts(words: Iterable[str], between: str = " ", after: str = ", ") -> str:
    """How often each comes, the most frequent first."""
    counts = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))
    return after.join(f"{word}{between}{count}" for word, count in counts)
