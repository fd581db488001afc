"""The benchmark at tiny sizes: its table has the rows that are promised. Times are not judged."""

import time
from dataclasses import replace
from itertools import islice
from math import inf, isclose

import numpy as np
import pytest
import torch
from torch import get_num_threads as threads

from fedhq.allocator import Answer, Dual, Exact, Milp, Status, Sweep, solve
from fedhq.models import build_model
from fedhq.studies import bench_steps, benchmark
from fedhq.studies.apart import run_apart
from fedhq.studies.bench_rounds import round_rows
from fedhq.studies.bench_steps import step_rows
from fedhq.studies.bench_sweep import separable_problem
from fedhq.studies.bench_whole import HARD_FAMILIES, whole_problem
from fedhq.studies.goals import Goal
from fedhq.studies.others import brevitas_model, torch_ao_model, torchao_model, why_missing
from fedhq.studies.races import Entrant, Lane, Run, race, race_rows, timed, times_faster
from fedhq.studies.timing import FULL, QUICK, Bench, Candidate, Role, Row, Scale

TINY = Scale(
    clients=(5, 8),
    highs_clients=(6,),
    cohorts=(4,),
    hard_clients=5,
    middle_clients=7,
    fleet_clients=(9,),
    giant_clients=10,
    gap_clients=(4, 6),
    stored_clients=(20, 30),
    round_clients=6,
    trained_clients=4,
    rounds=1,
    search_clients=6,
    search_trials=8,
    seeds=2,
    highs_seconds=1.0,
    hard_seconds=0.5,
    elements=100,
    large_elements=144,
    images=(8,),
    threads=(1,),
    samples=2,
    case_seconds=0.1,
    sample_seconds=1e-4,
)
PARTS = [
    *("all but training and checkpoint", "availability", "plan", "broadcast", "engine", "encode"),
    *("inbox", "learn", "records", "other", "checkpoint", "training"),
]
PROMISED = {
    "separable program x 8, 5 clients": ["Sweep", "sum of both tables"],
    "separable program x 8, 8 clients": ["Sweep", "sum of both tables"],
    "whole frontier x 8, 8 clients": ["pareto_frontier", "HiGHS (Milp)", "np.sort", "np.argsort"],
    "separable program x 7, 6 clients": ["Sweep", "HiGHS (Milp)"],
    "whole program, 4 clients": ["Exact", "HiGHS (Milp)", "cvxpy"],
    "plan of a round": ["Dual", "Dual"],
    "whole program to a gap, 7 clients": ["Exact", "HiGHS (Milp"],
    "whole program to a gap, 9 clients": ["Dual"],
    "whole program to a gap, 10 clients": ["Dual"],
    **{f"hard: {family}, 5 clients": ["Exact", "HiGHS (Milp)"] for family in HARD_FAMILIES},
    "gap of Dual, 6 clients": ["Dual"],
    "dynamic per channel, forward, 100 floats": [
        *("fake_quantize_dynamic", "plain torch", "ATen", "torchao", "Brevitas", "memcpy")
    ],
    "static per tensor, forward, 100 floats": ["fake_quantize", "ATen", "memcpy"],
    "static per channel, forward + back": ["fake_quantize", "ATen", "memcpy, twice"] * 2,
    "learned per channel, forward + backward, 144 floats": [
        *("fake_quantize", "ATen learnable", "Brevitas", "as many bytes", "memcpy")
    ],
    "fit of 9 clip ratios per channel, 144 floats": ["fit_range", "plain torch", "sum", "memcpy"],
    "wire codec, pack 1,600 floats": [
        "stochastic_pack",
        "without feedback",
        "plain torch",
        "memcpy",
    ],
    "wire codec, encode 100": ["encode_update", "tobytes", "memcpy"],
    "wire codec, decode 100": ["decode_update", "frombuffer", "memcpy"],
    "training step, cnn at 8x8": [
        *("qat-w4a8", "without shadow", "largest", "averaged", "learned", "bf16"),
        *("torch.ao", "Brevitas", "float", "copies"),
    ],
    "training step, mlp at 8x8": [
        *("qat-w4a8", "without shadow", "largest", "averaged", "learned", "bf16"),
        *("torch.ao", "Brevitas", "torchao", "float", "copies"),
    ],
    "round of 6 of 20 stored clients": PARTS,
    "round of 6 of 30 stored clients": PARTS * 2,
    "round of 4 clients, cnn at 28x28, 2 epochs, times as predicted": PARTS,
    "round of 4 clients, cnn at 28x28, 2 epochs, times scatter": PARTS,
    "policy search of a table, 6 clients": ["tpe"],
    "fedhq study search demo in the model, 8 trials": ["search"],
    "a trial of the demo in the model, of 8": ["search", "Optuna alone"],
}

OTHERS = {
    "torch": lambda network: torch_ao_model(network, 8, 8),
    "brevitas": lambda network: brevitas_model(network, 8, 8, learns=True, collect_steps=10),
    "torchao": lambda network: torchao_model(network, 8, 8),
}


def cases_of(text):
    """Case to its rows, each a list of cells; without the goals at the head."""
    cases, case = {}, ""
    for line in text.partition("## Separable")[2].splitlines():
        if line.startswith("| ") and not line.startswith("| case"):
            first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            case = first or case
            cases.setdefault(case, []).append(cells)
    return cases


@pytest.fixture(scope="module")
def text():
    return benchmark.run(TINY)


def test_the_table_has_the_promised_rows_in_order(text):
    cases = cases_of(text)
    for start, names in PROMISED.items():
        rows = [row for case, rows in cases.items() if case.startswith(start) for row in rows]
        assert len(rows) == len(names)
        for row, name in zip(rows, names, strict=True):
            assert name in row[0]


def test_every_case_compares_ours_with_the_others_and_only_sound_answers(text):
    for case, rows in cases_of(text).items():
        assert rows[0][0].startswith("**"), case
        assert rows[0][4] == "1.00"
        limits = [row for row in rows if row[0].startswith("*") and not row[0].startswith("**")]
        assert [row[5] for row in limits[:1]] in ([], ["1.00"])
    assert "BREAKS" not in text
    assert "OTHER VALUES" not in text
    assert "unknown" not in text


def test_what_is_proven_says_so_and_what_is_asked_stands_at_the_head(text):
    (exact, *_) = cases_of(text)["whole program, 4 clients"]
    assert "2 optimal; best objective; gap" in exact[-1]
    head = text.partition("## Separable")[0].partition("## Goals")[2]
    goals = [line for line in head.splitlines() if line.startswith("| ")][1:]
    assert len(goals) == 29
    assert sum("Sweep" in line for line in goals) == 4
    assert sum("learnable op" in line for line in goals) == 2
    assert all("reached" in line or "missed" in line for line in goals)


def test_the_machine_and_the_versions_are_named(text):
    line = benchmark.machine_line()
    assert line.split(" cores")[0] in text
    for name in ("Python 3", "numpy", "scipy", "torch", "fedhq"):
        assert name in line


def test_the_parts_of_a_round_are_all_of_it():
    # lazily: the second federation, whose times scatter, is in the table
    rows = round_rows(Bench(replace(TINY, stored_clients=())))
    (whole, *parts) = islice(rows, len(PARTS))
    counted = [row for row in parts if row.name not in ("checkpoint", "training")]
    assert whole.best_seconds == pytest.approx(sum(row.best_seconds for row in counted))
    assert parts[-1].best_seconds > 0
    assert parts[-1].over_limit == 1


class Untimed(Bench):
    """Compares without timing: every ratio is 1."""

    def compare(self, family, candidates, size=0, unit=""):
        return [Row(family, c.name, c.role, 1.0, 1.0, 1.0, 1.0, str(threads())) for c in candidates]


def test_steps_of_larger_images_are_judged_on_all_threads_which_are_put_back(monkeypatch):
    monkeypatch.setattr(bench_steps, "_STEPS", 1)  # nothing is timed
    before = threads()
    rows = list(step_rows(Untimed(replace(TINY, images=(28, 32, 8), threads=(1, 2)))))
    assert threads() == before
    assert all(row.note == ("2" if "2 threads" in row.case else "1") for row in rows)
    judged = [row.case.removeprefix("training step, ") for row in rows if row.verdicts]
    wide = "convolutions 32-64-128 at 32x32, batch 32"
    one = ["cnn at 28x28, batch 32", "cnn at 32x32, batch 32", wide]
    assert judged == [*one, *(f"{case}, 2 threads" for case in one)]
    assert {row.name for row in rows if row.verdicts} == {"qat-w4a8"}
    assert not any("8x8, batch 32, 2 threads" in row.case.replace("28x28", "") for row in rows)


def test_other_libraries_start_from_the_same_weights_and_round_them():
    network = build_model("mlp", (1, 8, 8), 10, 0)
    for package, make in OTHERS.items():
        if why_missing(package):
            continue
        other = make(network)
        for name, weight in network.named_parameters():
            assert torch.equal(other.get_parameter(name), weight)
        x = torch.rand(32, 1, 8, 8)
        exact, rounded = network(x), other(x)
        assert 0 < (exact - rounded).norm() / exact.norm() < 0.2, package


def test_a_goal_is_reached_if_the_worst_problem_reaches_it():
    at_most, at_least = Goal("time", 2.0, "s"), Goal("faster", 20.0, "x", at_least=True)
    assert at_most.judge(1.0, 2.0).outcome == "reached"
    assert at_most.judge(1.0, 1.0, 3.0).outcome == "reached in the median only"
    assert at_most.judge(1.0, inf, inf).outcome == "missed"
    assert at_least.judge(30.0, 40.0, 10.0).outcome == "reached in the median only"
    assert (at_least.judge(30.0, 10.0).worst, at_most.judge(30.0, 10.0).worst) == (10.0, 30.0)
    with pytest.raises(ValueError, match="`figures` must not be empty"):
        at_most.judge()


def test_only_equal_work_counts_as_faster():
    proven, stopped = Run(1.0, Status.OPTIMAL, 5.0, 0.0), Run(1.0, Status.FEASIBLE, 5.0, 0.1)
    better = Run(50.0, Status.OPTIMAL, 4.0, 0.0)
    ours = Lane(Entrant("ours", Role.OURS, Exact()), (proven, stopped, proven))
    slow = Run(50.0, Status.OPTIMAL, 5.0, 0.0)
    other = Lane(Entrant("other", Role.ALTERNATIVE, Milp()), (slow, slow, better))
    assert times_faster(ours, other) == [50.0, 0.0, 0.0]
    assert (stopped.seconds_to(0.1), stopped.seconds_to(0.01)) == (1.0, inf)


def test_a_race_measures_the_objective_and_the_gap_of_each_answer():
    entrants = [
        Entrant("Exact", Role.OURS, Exact()),
        Entrant("other", Role.ALTERNATIVE, Dual(), missing="not available: x"),
    ]
    lanes = race(Bench(TINY), "case", lambda seed: whole_problem(8, seed), entrants, 3)
    for seed, run in enumerate(lanes[0].runs):
        best = solve(whole_problem(8, seed), Milp()).allocation.objective
        assert isclose(run.objective, best, rel_tol=1e-6)
        assert run.gap <= 1e-6
    rows = race_rows("case", lanes)
    assert rows[0].best_seconds <= rows[0].median_seconds <= rows[0].worst_seconds
    assert (rows[1].best_seconds, rows[1].note) == (None, "not available: x")


def test_a_choice_that_breaks_a_limit_is_no_answer():
    problem = whole_problem(8, 0)
    wasteful = np.zeros(8, dtype=np.int64)
    run = timed(problem, lambda asked: Answer(Status.OPTIMAL, wasteful, 0.0))
    assert (run.status, run.objective, run.gap) == (Status.UNKNOWN, inf, inf)


def test_a_run_in_its_own_process_answers_the_same_problem():
    apart = run_apart("federated", 0, 50, 1e-3)
    here = timed(whole_problem(50, 0), Dual(1e-3))
    assert (apart.run.objective, apart.run.gap) == (here.objective, here.gap)
    assert apart.peak_bytes > 10e6


def test_the_problems_are_solvable_and_not_trivial():
    for problem, solver in ((separable_problem(100), Sweep()), (whole_problem(20, 0), Milp())):
        assert (solve(problem, solver).allocation.counts() > 0).sum() >= 3


def test_what_was_too_slow_at_one_size_is_left_out_at_the_next():
    calls = []

    def slowly():
        calls.append(1)
        time.sleep(0.02)

    bench = Bench(Scale(samples=1, case_seconds=0.01, limit_seconds=0.1))
    candidates = [Candidate("ours", Role.OURS, int), Candidate("slow", Role.ALTERNATIVE, slowly)]
    first = bench.compare("family", candidates, 10, "clients")
    later = bench.compare("family", candidates, 100, "clients")
    assert calls == [1]
    assert first[1].best_seconds >= 0.02
    assert first[1].note == "1 sample"
    assert later[1].best_seconds is None
    assert later[1].note.startswith("left out: expected to take")
    assert later[0].over_ours == 1


def test_a_candidate_that_is_missing_says_why():
    missing = Candidate("other", Role.ALTERNATIVE, int, missing="not available: x")
    rows = Bench(TINY).compare("case", [Candidate("ours", Role.OURS, int), missing])
    assert (rows[1].best_seconds, rows[1].note) == (None, "not available: x")


@pytest.mark.parametrize(
    ("arguments", "scale", "sections"),
    [
        ([], FULL, list(benchmark.SECTIONS)),
        (["--quick", "--only", "Rounds"], QUICK, ["Rounds"]),
    ],
)
def test_the_options_choose_scale_sections_and_file(
    arguments, scale, sections, monkeypatch, tmp_path, capsys
):
    asked = (scale, sections)
    monkeypatch.setattr(benchmark, "run", lambda chosen, only: f"{(chosen, list(only)) == asked}\n")
    monkeypatch.setattr(benchmark, "set_up_process", lambda threads: None)
    benchmark.main(arguments)
    assert capsys.readouterr().out == "True\n"
    out = tmp_path / "new" / "table.md"
    benchmark.main([*arguments, "--out", str(out)])
    assert out.read_text() == "True\n"
