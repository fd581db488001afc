"""The benchmark at tiny sizes: its table has the rows that are promised. Times are not judged."""

import re
import time

import pytest

from fedhq.allocator import Milp, Sweep, solve
from fedhq.studies import benchmark
from fedhq.studies.bench_allocator import separable_problem, whole_problem
from fedhq.studies.timing import FULL, QUICK, Bench, Candidate, Role, Scale

TINY = Scale(
    clients=(5, 8),
    whole_clients=(4,),
    elements=100,
    images=(8,),
    samples=2,
    case_seconds=0.1,
    sample_seconds=1e-4,
)
PROMISED = {
    "separable program, 5 clients": ["Sweep", "HiGHS (Milp)", "cvxpy", "np.sort", "copy"],
    "separable program, 8 clients": ["Sweep", "HiGHS (Milp)", "cvxpy", "np.sort", "copy"],
    "whole frontier, 8 clients": ["pareto_frontier", "HiGHS (Milp)", "np.sort"],
    "budget and coverage, 4 clients": ["HiGHS (Milp)", "cvxpy", "copy"],
    "fake quantization per tensor, forward, 100": ["models.fake_quantize", "ATen", "memcpy"],
    "fake quantization per channel, forward + back": ["models.fake_quantize", "ATen", "memcpy"],
    "wire codec, encode 100": ["encode_update", "tobytes", "memcpy", "random numbers"],
    "wire codec, decode 100": ["decode_update", "frombuffer", "memcpy"],
    "training step, cnn at 8x8": ["qat-w2a2", "fake_quantize", "torch.ao", "float", "copies"],
}


def cases_of(text):
    """Case to its rows, each a list of cells."""
    cases, case = {}, ""
    for line in text.splitlines():
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
        (rows,) = [rows for case, rows in cases.items() if case.startswith(start)]
        assert len(rows) == len(names)
        for row, name in zip(rows, names, strict=True):
            assert name in row[0]


def test_every_case_compares_ours_with_a_limit_and_only_equal_answers(text):
    for case, rows in cases_of(text).items():
        assert rows[0][0].startswith("**"), case
        assert rows[0][3] == "1.00"
        limits = [row for row in rows if row[0].startswith("*") and not row[0].startswith("**")]
        assert limits[0][4] == "1.00"
        objectives = {row[-1] for row in rows if "objective" in row[-1]}
        assert len({re.sub(r"; .*", "", note) for note in objectives}) <= 1
    assert "BREAKS" not in text
    assert "OTHER VALUES" not in text


def test_the_machine_and_the_versions_are_named(text):
    line = benchmark.machine_line()
    assert line.split(" cores")[0] in text
    for name in ("Python 3", "numpy", "scipy", "torch", "fedhq"):
        assert name in line


def test_the_problems_are_solvable_and_not_trivial():
    for problem, solver in ((separable_problem(100), Sweep()), (whole_problem(20), Milp())):
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


@pytest.mark.parametrize(("arguments", "scale"), [([], FULL), (["--quick"], QUICK)])
def test_the_options_choose_the_scale_and_the_file(arguments, scale, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "run", lambda chosen: f"{chosen == scale}\n")
    monkeypatch.setattr(benchmark, "set_up_process", lambda threads: None)
    benchmark.main(arguments)
    assert capsys.readouterr().out == "True\n"
    out = tmp_path / "new" / "table.md"
    benchmark.main([*arguments, "--out", str(out)])
    assert out.read_text() == "True\n"
