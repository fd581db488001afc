"""What every arm decides in every cell, kept line by line: known before anything is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ...allocator import fitted_loss
from ...fl_core.processes import forking_context
from ...fl_core.runtime import set_up_worker
from ..runs import RunSpec
from ..runs.lines import append_lines, whole_lines
from .arms import ARMS, arms_of
from .grid import WHOLE, Cell, Grid, Ground
from .plans import Plan, round_seconds
from .situation import FLEETS, MENU, Situation, ground_settings, step_profile

DECISIONS_FILE = "decisions.jsonl"

_DECIDES = 3  # raised where arms come to decide otherwise, so that older decisions do not count
_DIGEST = 8
_DIGITS = 9  # of seconds, significant: the last bits of a sum are the machine's
_PLACE = {str(s): str(k) for k, s in enumerate(MENU)}


def rules() -> str:
    """What decisions follow from, beside the cell: the arms' version, devices, and the fitted loss.

    Of the loss only what it sets: a field that came later, at its default, changes no decision, and
    what is told of where the numbers come from does not either.
    """
    fitted = fitted_loss()
    known = {
        field.name: getattr(fitted, field.name)
        for field in fields(fitted)
        if field.name != "origin" and getattr(fitted, field.name) != field.default
    }
    text = json.dumps(
        [known, repr(FLEETS), [_step_seconds(t) for t in WHOLE.tasks]], sort_keys=True
    )
    return f"{_DECIDES}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]}"


def _step_seconds(task: str) -> tuple[float, ...]:
    return tuple(map(float, step_profile(task).step_seconds))


@dataclass(frozen=True)
class Decision:
    """What an arm does in a cell.

    Args:
        cell: Name of the cell.
        arm: Name of the arm.
        key: Of the run that this trains.
        rows: A digit a client, its strategy's place in `MENU`: one row for all rounds, or a row a
            round.
        rounds: How many there are.
        seconds: Of the rounds: one for all, or one a round.
        version: Of the rules by which it was decided, see `rules`.
    """

    cell: str
    arm: str
    key: str
    rows: tuple[str, ...]
    rounds: int
    seconds: tuple[float, ...]
    version: str

    @classmethod
    def of(cls, cell: Cell, arm: str, plan: Plan, seconds: Sequence[float]) -> Decision:
        """Takes down a plan and the seconds of its rounds; equal rounds once."""
        rows = tuple("".join(_PLACE[text] for text in row) for row in plan)
        rounded = tuple(float(f"{s:.{_DIGITS}g}") for s in seconds)
        return cls(
            cell=cell.name,
            arm=arm,
            key=RunSpec(ground_settings(cell.ground, rounds=len(seconds)), plan).key,
            rows=rows[:1] if len(set(rows)) == 1 else rows,
            rounds=len(seconds),
            seconds=rounded[:1] if len(set(rounded)) == 1 else rounded,
            version=rules(),
        )

    @property
    def plan(self) -> Plan:
        """The strategies in words."""
        return tuple(tuple(str(MENU[int(digit)]) for digit in row) for row in self.rows)

    def spec(self, ground: Ground) -> RunSpec:
        """The run that it trains."""
        return RunSpec(ground_settings(ground, rounds=self.rounds), self.plan)


class Decisions:
    """The decisions of a folder; those that stand there are not made again.

    Args:
        folder: Holds `DECISIONS_FILE`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / DECISIONS_FILE
        self._kept: dict[str, dict[str, Decision]] = {}  # by cell, then by arm
        if self._path.exists():
            self._take(self._path.read_bytes())

    def find(self, cell: Cell, arm: str) -> Decision | None:
        """What an arm does in a cell; None where it is not compared there."""
        return self._kept.get(cell.name, {}).get(arm)

    def of(self, cell: Cell) -> list[Decision]:
        """The decisions in a cell of all arms that there are now."""
        made = self._kept.get(cell.name, {})
        return [made[arm.name] for arm in ARMS if arm.name in made]

    def make(
        self,
        grid: Grid,
        grounds: Iterable[Ground],
        workers: int,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Decides what is not decided yet, ground by ground.

        Args:
            grid: The cells.
            grounds: Whose cells.
            workers: Processes.
            on_progress: Told how many of the missing grounds are done, and of how many.
        """
        known = frozenset((cell, arm) for cell, arms in self._kept.items() for arm in arms)
        left = [g for g in grounds if not self._is_whole(grid, g)]
        if not left:
            return
        context = forking_context(__name__)
        with ProcessPoolExecutor(workers, context, initializer=set_up_worker) as pool:
            waiting = [pool.submit(decide, grid, ground, known) for ground in left]
            try:
                for number, future in enumerate(as_completed(waiting), start=1):
                    self.keep(future.result())
                    if on_progress is not None:
                        on_progress(number, len(left))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _is_whole(self, grid: Grid, ground: Ground) -> bool:
        """Whether each arm of each cell of a ground is there."""
        return all(
            self.find(cell, arm.name) is not None
            for cell in grid.cells(ground)
            for arm in arms_of(cell, is_apart=grid.is_apart(cell))
        )

    def keep(self, made: Sequence[Decision]) -> None:
        """Takes up decisions, and writes them down."""
        lines = "".join(json.dumps(asdict(d), separators=(",", ":")) + "\n" for d in made)
        append_lines(self._path, lines)
        self._take(lines.encode())

    def _take(self, content: bytes) -> None:
        now = rules()
        for told in whole_lines(content):
            if told["version"] != now:  # it may say less than decisions say today
                continue
            told["rows"], told["seconds"] = tuple(told["rows"]), tuple(told["seconds"])
            decision = Decision(**told)
            self._kept.setdefault(decision.cell, {})[decision.arm] = decision


def decide(
    grid: Grid, ground: Ground, known: frozenset[tuple[str, str]] = frozenset()
) -> list[Decision]:
    """Lets the arms decide in all cells of a ground.

    Args:
        grid: The cells.
        ground: The ground.
        known: Names of cells and arms that are not asked for.
    """
    made = []
    for cell in grid.cells(ground):
        arms = arms_of(cell, is_apart=grid.is_apart(cell))
        wanted = [arm for arm in arms if (cell.name, arm.name) not in known]
        if not wanted:
            continue
        situation = Situation.of(cell)
        for arm in wanted:
            assert arm.decide is not None, "what follows training is in no cell's list"
            mine = situation.shortened(arm.rounds)
            plan = arm.decide(mine)
            seconds = round_seconds(mine, plan, low_bit=arm.low_bit)
            made.append(Decision.of(cell, arm.name, plan, seconds))
    return made
