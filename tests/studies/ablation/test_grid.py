"""The grid as it really runs: in processes that hang, crash, lie, are killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fedhq.allocator import FedHQError
from fedhq.allocator.errors import DataError
from fedhq.allocator.instances.references import enumerated
from fedhq.studies.ablation import workers
from fedhq.studies.ablation.contestants import Contestant
from fedhq.studies.ablation.grid import Grid
from fedhq.studies.ablation.kinds import Kind
from fedhq.studies.ablation.ledger import Ledger, latest_cells, read_cells
from fedhq.studies.ablation.record import CELLS_FILE, Cell
from fedhq.studies.ablation.settings import GridSettings

sys.path.insert(0, str(Path(__file__).parent))  # other processes import it by this name
import unruly
from unruly import entered

HERE = Path(__file__).parent
SLEEP = f"sleep\0{unruly.ODD_SECONDS}\0".encode()
TWO = GridSettings(
    ("dual", "exact", "highs", "uniform-qat", "random"),
    ("random", "ties, separable"),
    sizes=(6,),
    seeds=(0,),
    time_limits_seconds=(5.0,),
)
ONE = GridSettings(("dual",), ("federated",), sizes=(6,), seeds=(0,), time_limits_seconds=(0.3,))


def run(settings: GridSettings, folder: Path, *own) -> tuple[Cell, ...]:
    with Ledger(folder) as ledger:
        return Grid.of(settings, own).run(ledger)


def lines(folder: Path) -> list[str]:
    return (folder / CELLS_FILE).read_text("utf-8").splitlines()


def results(cells) -> list[tuple[object, ...]]:
    """What must not depend on the machine, as bytes."""
    return [(*c.key, c.outcome, repr(c.objective), c.choice, c.verified) for c in cells]


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(workers, "GRACE_SECONDS", 2.0)


def test_every_cell_is_measured_once_and_says_what_enumeration_says(tmp_path) -> None:
    cells = run(TWO, tmp_path)
    assert len(cells) == len(lines(tmp_path)) == len({c.key for c in cells}) == 10
    for cell, source in zip(cells, [s for s in problems(TWO) for _ in range(5)], strict=True):
        best = enumerated(source.build())
        if cell.solver in ("exact", "highs"):
            assert (cell.outcome, cell.verified) == ("optimal", True)
            assert cell.objective == pytest.approx(best, rel=1e-6)
        elif cell.objective is not None:
            assert cell.objective >= best - 1e-9
        assert cell.seconds["total"] >= sum(cell.seconds.values()) / 2 - 1e-3
    assert {c.solver for c in cells} == set(TWO.solvers)


def problems(settings: GridSettings):
    from fedhq.studies.ablation.problems import ProblemSource

    return [ProblemSource.of_family(f, 6, 0) for f in settings.families]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`workers` = 3")
def test_the_number_of_workers_changes_no_byte_of_the_results(tmp_path) -> None:
    one = run(replace(TWO, workers=1), tmp_path / "one")
    three = run(replace(TWO, workers=3), tmp_path / "three")
    assert results(one) == results(three)


def test_what_stands_is_not_measured_again_and_only_what_is_new_is(tmp_path) -> None:
    first = run(ONE, tmp_path)
    told: list[int] = []
    with Ledger(tmp_path) as ledger:
        again = Grid.of(ONE).run(ledger, lambda progress: told.append(progress.total))
    assert (again, told) == (first, [0])
    more = replace(ONE, solvers=("exact", "dual"), seeds=(0, 1))
    assert len(run(more, tmp_path)) == len(lines(tmp_path)) == 4
    # Other settings stay recorded, but are not among the cells of these.
    other = replace(ONE, time_limits_seconds=(0.4,))
    assert [c.time_limit_seconds for c in run(other, tmp_path)] == [0.4]
    assert len(lines(tmp_path)) == 5


@pytest.mark.slow
def test_a_new_version_of_a_solver_is_measured_again(tmp_path) -> None:
    run(ONE, tmp_path, entered("mine", unruly.Sleeps(0.0), "mine 1"))
    (_, mine) = run(ONE, tmp_path, entered("mine", unruly.Sleeps(0.0), "mine 2"))
    assert mine.solver_version == "mine 2"
    assert len(lines(tmp_path)) == 3
    (_, mine) = run(ONE, tmp_path, entered("mine", unruly.Sleeps(0.01), "mine 2"))
    assert mine.settings == "Sleeps(seconds=0.01)"
    assert len(lines(tmp_path)) == 4
    assert {c.settings for c in latest_cells(tmp_path)} == {"Dual(gap=1e-05)", mine.settings}


def test_cells_of_another_version_of_fedhq_do_not_stand(tmp_path) -> None:
    (old,) = run(ONE, tmp_path)
    table = json.loads((tmp_path / "provenance.json").read_text("utf-8"))
    older = {"older": table[old.provenance] | {"fedhq": "0.0.1"}}
    (tmp_path / "provenance.json").write_text(json.dumps(older), encoding="utf-8")
    line = lines(tmp_path)[0].replace(old.provenance, "older")
    (tmp_path / CELLS_FILE).write_text(line + "\n", encoding="utf-8")
    (cell,) = run(ONE, tmp_path)
    assert cell.provenance == old.provenance
    assert len(lines(tmp_path)) == 2
    with Ledger(tmp_path) as ledger:
        assert ledger.provenance["older"].fedhq == "0.0.1"
        assert ledger.provenance[cell.provenance].fedhq != "0.0.1"


def test_cells_of_another_machine_are_measured_again_and_stay_written(tmp_path) -> None:
    (old,) = run(ONE, tmp_path)
    path = tmp_path / "provenance.json"
    table = json.loads(path.read_text("utf-8"))
    table[old.provenance]["processor"] = "abacus"
    path.write_text(json.dumps({"elsewhere": table[old.provenance]}), encoding="utf-8")
    line = lines(tmp_path)[0].replace(old.provenance, "elsewhere")
    (tmp_path / CELLS_FILE).write_text(line + "\n", encoding="utf-8")
    (cell,) = run(ONE, tmp_path)
    assert cell.provenance == old.provenance
    assert [c.provenance for c in read_cells(tmp_path)] == ["elsewhere", cell.provenance]
    assert run(ONE, tmp_path) == (cell,)


def test_more_processes_than_cores_are_warned_of_and_noted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    two = replace(ONE, solvers=("dual", "sweep"), workers=2)
    with pytest.warns(UserWarning, match=r"`workers` = 2 processes share 1 core\b.*Take 1\."):
        cells = run(two, tmp_path)
    assert {cell.workers for cell in cells} == {2}


@pytest.mark.slow
def test_a_backend_that_needs_a_process_starts_it_before_it_is_measured(tmp_path) -> None:
    settings = replace(ONE, solvers=("cvxpy:SCIPY",), seeds=(0, 1, 2), time_limits_seconds=(5.0,))
    cells = run(replace(settings, workers=1), tmp_path)
    assert [cell.outcome for cell in cells] == ["optimal"] * 3
    assert all("start" not in cell.seconds for cell in cells)


def test_solvers_that_hang_crash_or_lie_cost_only_their_own_cells(tmp_path, impatient) -> None:
    cells = run(
        ONE,
        tmp_path,
        entered("hangs", unruly.Hangs()),
        entered("segfaults", unruly.Segfaults()),
        entered("lies", unruly.Lies()),
        entered("breaks", unruly.Raises("breaks")),
        entered("refuses", unruly.Raises("refuses")),
        entered("lacks", unruly.Raises("lacks")),
    )
    told = {cell.solver: cell for cell in cells}
    assert {name: cell.outcome for name, cell in told.items()} == {
        "dual": told["dual"].outcome,
        "hangs": "timeout",
        "segfaults": "crashed",
        "lies": "wrong",
        "breaks": "crashed",
        "refuses": "refused",
        "lacks": "missing",
    }
    assert told["dual"].verified
    assert told["hangs"].seconds["total"] >= 1.5 * 0.3 + 2.0
    assert "limit 0.3 s" in told["hangs"].message
    assert "SIGSEGV" in told["segfaults"].message
    assert "Lies()" in told["lies"].message
    assert "`coverage` is beyond me." in told["refuses"].message
    assert all(told[name].objective is None for name in told if name != "dual")
    assert run(ONE, tmp_path) == (told["dual"],)


@pytest.mark.slow
def test_what_a_hanging_solver_has_started_ends_with_it(tmp_path, impatient) -> None:
    before = sleepers()
    (_, cell) = run(ONE, tmp_path, entered("hangs", unruly.Hangs()))
    assert cell.outcome == "timeout"
    assert sleepers() == before


def sleepers() -> set[str]:
    """The processes of `Hangs`, of anybody."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == SLEEP:
                found.add(path.parent.name)
        except OSError:  # it has just ended
            continue
    return found


@pytest.mark.slow
def test_a_solver_that_hangs_on_the_way_to_its_start_is_ended_too(
    tmp_path, impatient, monkeypatch
) -> None:
    monkeypatch.setattr(workers, "SETUP_SECONDS", 1.0)
    (_, cell) = run(ONE, tmp_path, entered("hangs", unruly.Hangs(also_at_first=True)))
    assert cell.outcome == "timeout"
    assert "on the way to its start" in cell.message


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`workers` = 3")
def test_after_a_size_in_vain_larger_ones_are_not_tried_and_that_is_said(tmp_path) -> None:
    climbing = replace(ONE, sizes=(20, 6, 10), seeds=(0, 1), workers=3)
    started = time.monotonic()
    cells = run(climbing, tmp_path, entered("in vain", unruly.InVain(0.3)))
    mine = [c for c in cells if c.solver == "in vain"]
    assert [c.clients for c in mine] == [6, 6, 10, 10, 20, 20]
    assert [c.outcome for c in mine] == ["unknown"] * 2 + ["not tried"] * 4
    assert all("with 6 clients" in c.message for c in mine[2:4])
    assert all("with 10 clients" in c.message for c in mine[4:])
    assert all(c.objective is not None for c in cells if c.solver == "dual")
    assert time.monotonic() - started < 60
    assert run(climbing, tmp_path, entered("in vain", unruly.InVain(0.3))) == cells


def test_a_solver_without_its_library_is_noted_as_missing(tmp_path) -> None:
    absent = Contestant("absent", "", None, Kind.LIBRARY, "far_away is not installed; install it.")
    (_, cell) = run(ONE, tmp_path, absent)
    assert (cell.outcome, cell.message, cell.settings) == ("missing", absent.missing, "")


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(tmp_path) -> None:
    def stop(progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Ledger(tmp_path) as ledger:
        Grid.of(TWO).run(ledger, stop)
    kept = list(read_cells(tmp_path))
    assert len(kept) == 4
    assert {c.key for c in kept} < {c.key for c in run(TWO, tmp_path)}
    assert len(lines(tmp_path)) == 10


KILLED = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
import unruly
from fedhq.studies.ablation.grid import Grid
from fedhq.studies.ablation.ledger import Ledger
from fedhq.studies.ablation.settings import GridSettings
if __name__ == "__main__":
    settings = GridSettings({solvers!r}, {families!r}, sizes=(6,), seeds=(0,),
                            time_limits_seconds=(5.0,))
    own = [unruly.entered(f"sleeps {{k}}", unruly.Sleeps(0.2 + k / 100)) for k in range(5)]
    with Ledger(Path(sys.argv[1])) as ledger:
        Grid.of(settings, own).run(ledger)
"""


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed_nothing_is_lost_or_there_twice(tmp_path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "out"
    script.write_text(
        KILLED.format(here=str(HERE), solvers=TWO.solvers, families=TWO.families), "utf-8"
    )
    command = [sys.executable, str(script), str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, start_new_session=True) as parent:
        wait_until(lambda: (folder / CELLS_FILE).exists() and len(lines(folder)) >= 8)
        team = children_of(parent.pid)
        parent.send_signal(signal.SIGKILL)
    before = lines(folder)
    assert team
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in team))
    with open(folder / CELLS_FILE, "a", encoding="utf-8") as file:
        file.write(before[0][:40])  # what a kill in the middle of a write leaves
    subprocess.run(command, env=environment, check=True)
    after = lines(folder)
    assert after[: len(before)] == before
    keys = Counter(cell.key for cell in read_cells(folder))
    assert len(keys) == len(after) == 20
    assert set(keys.values()) == {1}


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            told = path.read_text("ascii").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(told[1]) == pid and told[0] != "Z":
            found.append(int(path.parent.name))
    return found


def wait_until(holds, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_damaged_line_is_named_and_nothing_is_measured(tmp_path) -> None:
    run(ONE, tmp_path)
    path = tmp_path / CELLS_FILE
    path.write_text("{}\n" + path.read_text("utf-8"), encoding="utf-8")
    content = path.read_bytes()
    with pytest.raises(DataError, match=r"cells\.jsonl, line 1: must be a cell"):
        run(ONE, tmp_path)
    assert path.read_bytes() == content


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path) -> None:
    (tmp_path / "study.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match=r"must be a folder of an ablation or empty.*study\.json"):
        run(ONE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_one_process_at_a_time_writes_a_folder(tmp_path) -> None:
    with Ledger(tmp_path), pytest.raises(FedHQError, match="at a time"):
        run(ONE, tmp_path)
    assert not (tmp_path / CELLS_FILE).exists()
    assert len(run(ONE, tmp_path)) == 1


def test_a_process_that_cannot_start_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(workers, "_serve", unruly.ends_at_once)  # without a word
    with pytest.raises(FedHQError, match="a process that measures ended with exit status 3"):
        run(ONE, tmp_path)


def test_solvers_must_differ_by_name(tmp_path) -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Grid.of(ONE, [entered("dual", unruly.Lies())])
