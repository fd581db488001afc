"""`fedhq plan`: what it writes is what `solve` returns; what is wrong it says in one message."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Answer,
    Budget,
    Count,
    Coverage,
    Dual,
    Exact,
    SolverError,
    Status,
    Sweep,
    fitted_loss,
    pareto_frontier,
    solve,
)
from fedhq.allocator.explain.quantities import POINTS
from fedhq.fl_core.text_file import Source
from fedhq.studies import plan_files
from fedhq.studies.entry import main
from fedhq.studies.plan import make_plan
from fedhq.studies.plan_csv import CsvTerms, problem_from_csv
from fedhq.studies.plan_json import problem_from_json
from fedhq.studies.plan_options import with_count

EXAMPLE = Path(str(resources.files("fedhq.studies").joinpath("examples", "plan")))
TABLE = """client,strategy,seconds,loss,uplink_bytes
tablet,skip,0,0.1,0
tablet,ptq-w2a2,1,0.02,5e3
tablet,qat-w2a2,1.4,0,5e3
phone,skip,0,0.1,0
phone,ptq-w2a2,2,0.02,5e3
phone,qat-w2a2,2.8,0,5e3
"""
PROBLEM = AllocationProblem(
    ("skip", "ptq-w2a2", "qat-w2a2"),
    [[0, 1, 1.4], [0, 2, 2.8]],
    [[0.1, 0.02, 0], [0.1, 0.02, 0]],
    clients=["tablet", "phone"],
)


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "fleet.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def plan(*arguments: object) -> int:
    return main(["plan", *map(str, arguments)])


def written(path: Path) -> dict[str, str]:
    """The strategies of an allocation that was written as CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["client"]: row["strategy"] for row in csv.DictReader(file)}


def strategies(problem: AllocationProblem, solver: object) -> dict[str, str]:
    choice = solve(problem, solver).allocation.choice
    return {c: str(problem.strategies[s]) for c, s in zip(problem.clients, choice, strict=True)}


def with_goal(**goal: object) -> AllocationProblem:
    return AllocationProblem(
        PROBLEM.strategies, PROBLEM.seconds, PROBLEM.loss, clients=PROBLEM.clients, **goal
    )


@pytest.mark.parametrize(
    ("options", "goal"),
    [
        (["--tradeoff", "20"], {"tradeoff": 20}),
        (["--tradeoff", "100", "--solver", "milp"], {"tradeoff": 100}),
        (["--deadline", "2"], {"deadline_seconds": 2}),
        (["--max-loss", "0.03", "--solver", "sweep"], {"max_loss": 0.03}),
        (["--tradeoff", "5", "--min-participation", "1"], {"tradeoff": 5, "min_participation": 1}),
        (
            ["--tradeoff", "100", "--count", "ptq-w2a2>=1"],
            {"tradeoff": 100, "counts": [Count(["ptq-w2a2"], 1)]},
        ),
        (
            ["--tradeoff", "100", "--limit", "uplink_bytes=6e3", "--solver", "dual"],
            {
                "tradeoff": 100,
                "budgets": [Budget("uplink_bytes", [[0, 5e3, 5e3]] * 2, 6e3)],
            },
        ),
    ],
)
def test_the_written_allocation_is_the_optimum_of_the_problem_built_by_hand(
    table, tmp_path, options, goal
) -> None:
    out = tmp_path / "new" / "plan.csv"
    assert plan(table, *options, "--out", out) == 0
    assert written(out) == strategies(with_goal(**goal), Exact())


def test_the_json_holds_the_certificate_and_what_the_allocation_takes(table, tmp_path) -> None:
    out = tmp_path / "plan.json"
    assert plan(table, "--tradeoff", 100, "--limit", "uplink_bytes=6e3", "--out", out) == 0
    goal = {"tradeoff": 100, "budgets": [Budget("uplink_bytes", [[0, 5e3, 5e3]] * 2, 6e3)]}
    problem = with_goal(**goal)
    solution = solve(problem, Exact())
    content = json.loads(out.read_text("utf-8"))
    assert content["status"] == "optimal"
    assert content["objective"] == pytest.approx(solution.allocation.objective)
    assert content["bound"] == pytest.approx(solution.bound)
    assert (content["gap"], content["bottleneck"]) == (pytest.approx(0, abs=1e-9), "tablet")
    assert content["round_seconds"] == max(row["seconds"] for row in content["allocation"])
    assert content["loss"] == pytest.approx(sum(row["loss"] for row in content["allocation"]))
    (budget,) = content["budgets"]
    assert budget["usage"] == sum(row["uplink_bytes"] for row in content["allocation"]) <= 6e3
    assert content["prices"]["budgets"]["uplink_bytes"] >= 0


def test_without_a_goal_the_knee_of_the_frontier_is_taken_and_said(table, tmp_path, capsys) -> None:
    frontier = pareto_frontier(PROBLEM)
    drawn, out = tmp_path / "frontier.csv", tmp_path / "plan.json"
    assert plan(table, "--frontier", drawn, "--out", out) == 0
    rows = list(csv.reader(io.StringIO(drawn.read_text("utf-8"))))
    assert rows[0] == ["round_seconds", "loss"]
    numbers = np.array(rows[1:], dtype=float)
    np.testing.assert_array_equal(numbers[:, 0], frontier.round_seconds)
    np.testing.assert_array_equal(numbers[:, 1], frontier.loss)
    content = json.loads(out.read_text("utf-8"))
    assert [content["round_seconds"], content["loss"]] in numbers.tolist()
    printed = capsys.readouterr().out
    for part in ("No goal was given", "the knee", "->", "Not limited: uplink_bytes", "Proven best"):
        assert part in printed


@pytest.mark.parametrize(
    ("rule", "seconds"),
    [("most-accurate-within=2", 2.0), ("fastest-within=0", 2.8), ("fastest-within=0.5", 1.0)],
)
def test_a_rule_picks_its_point_of_the_frontier(table, tmp_path, rule, seconds) -> None:
    out = tmp_path / "plan.json"
    assert plan(table, "--pick", rule, "--out", out) == 0
    assert json.loads(out.read_text("utf-8"))["round_seconds"] == seconds


def test_a_pick_keeps_a_maximum_loss_whatever_the_solver_stops_at() -> None:
    @dataclass(frozen=True)
    class Stops:
        def __call__(self, problem: AllocationProblem, /) -> Answer:
            return Answer(Status.FEASIBLE, np.array([1, 0]))

    limited = with_goal(deadline_seconds=2, max_loss=0.03)
    assert make_plan(limited, Exact()).solution.allocation.loss <= 0.03
    with pytest.raises(SolverError, match="max_loss"):
        make_plan(limited, Stops())


def test_a_goal_draws_the_frontier_that_another_goal_would_choose_from(table, tmp_path) -> None:
    drawn = tmp_path / "frontier.csv"
    assert plan(table, "--deadline", 2, "--frontier", drawn) == 0
    assert len(drawn.read_text("utf-8").splitlines()) == 1 + len(pareto_frontier(PROBLEM))


def test_the_example_is_the_same_problem_as_json_and_as_csv() -> None:
    a = problem_from_json(Source("a", (EXAMPLE / "fleet.json").read_text("utf-8")))
    labels = Source("labels", (EXAMPLE / "labels.csv").read_text("utf-8"))
    terms = CsvTerms({"uplink_bytes": 2e6}, labels)
    b = problem_from_csv(Source("b", (EXAMPLE / "fleet.csv").read_text("utf-8")), terms)
    assert (a.strategies, a.clients) == (b.strategies, b.clients)
    generator = np.random.default_rng(0)
    for _ in range(20):
        choice = generator.integers(0, 3, a.num_clients)
        assert a.round_seconds(choice) == b.round_seconds(choice)
        assert a.total_loss(choice) == pytest.approx(b.total_loss(choice), abs=2e-5)
        np.testing.assert_array_equal(a.usage(choice), b.usage(choice))


def test_a_json_holds_every_term_of_the_program() -> None:
    content = {
        "strategies": ["skip", "ptq-w2a2", "qat-w2a2"],
        "clients": ["a", "b", "c"],
        "seconds": [[0, 1, 2], [0, 2, 3], [0, 3, 4]],
        "loss": [[0.1, 0, 0]] * 3,
        "tradeoff": 30,
        "deadline_seconds": 3.5,
        "max_loss": 0.9,
        "allowed": [[True, True, True], [False, True, True], [True, True, False]],
        "budgets": [{"resource": "energy_joules", "usage": [[0, 1, 2]] * 3, "limit": 5}],
        "coverage": {
            "label_counts": [[8, 2], [1, 9], [5, 5]],
            "teaches": [0, 0, 1],
            "loss_curve": [[0, 0.4], [0.5, 0]],
            "population": [20, 30],
            "carried": [0.1, 0],
        },
        "num_examples": [1, 2, 3],
        "min_participation": 0.4,
        "counts": [{"strategies": ["qat-w2a2"], "at_least": 1, "at_most": 2}],
        "groups": ["home", "home", None],
        "switching_seconds": [[0, 0.1, 0.2]] * 3,
    }
    read = problem_from_json(Source("fleet.json", json.dumps(content)))
    built = AllocationProblem(
        **{
            **content,
            "budgets": [Budget("energy_joules", [[0, 1, 2]] * 3, 5)],
            "coverage": Coverage(**content["coverage"]),
            "counts": [Count(["qat-w2a2"], 1, 2)],
            "allowed": np.array(content["allowed"]),
        }
    )
    assert strategies(read, Exact()) == strategies(built, Exact())
    choice = np.array([2, 2, 1])
    assert read.objective(choice) == built.objective(choice)
    assert read.participation(choice) == built.participation(choice)
    assert (read.counts, read.groups) == (built.counts, built.groups)
    assert (read.deadline_seconds, read.max_loss) == (3.5, 0.9)


def test_options_come_before_what_a_json_says(tmp_path) -> None:
    content = {"strategies": ["ptq-w2a2", "qat-w2a2"], "seconds": [[1, 2], [2, 4]]}
    content |= {"loss": [[0.1, 0], [0.1, 0]], "deadline_seconds": 1000}
    usage = [[1, 5], [1, 5]]
    content |= {"budgets": [{"resource": "energy_joules", "usage": usage, "limit": 1}]}
    path, out = tmp_path / "fleet.json", tmp_path / "plan.csv"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert plan(path, "--deadline", 3, "--limit", "energy_joules=6", "--out", out) == 0
    assert written(out) == {"0": "qat-w2a2", "1": "ptq-w2a2"}


def test_a_row_that_lacks_or_is_not_allowed_is_never_chosen() -> None:
    text = "client,strategy,seconds,loss,allowed,group\n"
    text += "a,ptq-w2a2,1,0.5,true,x\na,qat-w2a2,,,no,x\nb,qat-w2a2-u4,2,0,yes,\n"
    problem = problem_from_csv(Source("t.csv", text), CsvTerms())
    assert problem.allowed.tolist() == [[True, False], [False, True]]
    assert problem.groups == ("x", None)


def test_labels_add_coverage_by_the_fitted_curve_for_the_deployed_bits() -> None:
    text = "client,strategy,seconds,loss\na,ptq-w4a4,1,0\na,qat-w2a2,2,0\na,qat-w4a4,3,0\n"
    labels = Source("l.csv", "class,client,count\nred,a,8\nblue,a,2\n")
    terms = CsvTerms(labels=labels, deployed="ptq-w4a4")
    coverage = problem_from_csv(Source("t.csv", text), terms).coverage
    assert coverage.label_counts.tolist() == [[8, 2]]
    assert coverage.teaches.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(coverage.loss_curve, fitted_loss().loss_curve)


def test_explain_prints_the_what_ifs_of_a_client(table, capsys) -> None:
    assert plan(table, "--tradeoff", 10, "--explain", "phone") == 0
    assert "'phone' alone, with every other client unchanged" in capsys.readouterr().out
    assert plan(table, "--tradeoff", 10, "--explain", "phoney") == 2
    assert "Perhaps you mean 'phone'" in capsys.readouterr().err


def test_a_long_table_is_cut_on_the_screen_and_whole_in_the_file(tmp_path, capsys) -> None:
    rows = [f"c{i:03},ptq-w2a2,{i + 1},0" for i in range(50)]
    path, out = tmp_path / "fleet.csv", tmp_path / "plan.csv"
    path.write_text("client,strategy,seconds,loss\n" + "\n".join(rows), encoding="utf-8")
    assert plan(path, "--tradeoff", 1, "--out", out) == 0
    printed = capsys.readouterr().out
    assert printed.index("c049") < printed.index("c030") < printed.index("and 30 faster")
    assert "c029" not in printed.partition("Who does what")[2]
    assert list(written(out)) == [f"c{i:03}" for i in range(50)]


def test_a_name_cannot_break_the_table_or_steer_the_terminal(tmp_path, capsys) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text('client,strategy,seconds,loss\n"a\x1b[2J\nb",fp32,1,0\n', encoding="utf-8")
    assert plan(path, "--tradeoff", 1) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_an_infeasible_problem_exits_with_1_says_why_and_writes_nothing(
    table, tmp_path, capsys
) -> None:
    out = tmp_path / "plan.csv"
    limits = ["--min-participation", 1, "--deadline", 1.5]
    for goal in ([], ["--max-loss", 1], ["--max-loss", 1, "--pick", "knee"]):
        assert plan(table, *limits, *goal, "--out", out) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert "deadline_seconds >= 2" in told.err
        assert not out.exists()


def test_an_allocation_that_is_not_found_in_time_exits_with_1(capsys) -> None:
    assert plan("demo", "--tradeoff", 200, "--time-limit", 1e-9, "--solver", "milp") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "neither an allocation nor a proof" in told.err


BAD_TABLES = [
    ("", ["is empty", "fedhq plan --help"]),
    (",,\n,,\n", ["header must have the columns", "client"]),
    ("client,strategy,seconds,loss\n", ["row below its header"]),
    ("client;strategy;seconds;loss\n", ["separated by commas", "'client;strategy;seconds;loss'"]),
    (TABLE.replace("seconds", "time"), ["seconds lacks", "'time'"]),
    (TABLE.replace("uplink_bytes", "weight"), ["column 'weight'", "_bytes"]),
    (TABLE.replace("uplink_bytes", "loss"), ["['loss'] stand there twice"]),
    (TABLE.replace("1.4", "nan"), ["line 4", "`seconds`", "'nan'", "Write for example 1.5"]),
    (TABLE.replace("1.4", '"1,4"'), ["line 4", "`seconds`", "'1,4'"]),
    (TABLE.replace("1.4", "1_4"), ["line 4", "`seconds`", "'1_4'"]),
    (TABLE.replace("1.4", "-1"), ["line 4", "`seconds`", "'-1'"]),
    (TABLE.replace("1.4", ""), ["line 4", "`seconds`", "''", "leave out the row"]),
    (TABLE.replace("0.02", "inf"), ["line 3", "`loss`", "'inf'"]),
    (TABLE.replace("qat-w2a2", "magic"), ["line 4", "'magic'", "'qat-w2a2'"]),
    (TABLE.replace("qat-w2a2", "qat-w9a2"), ["line 4", "weight_bits=9"]),
    (TABLE.replace("skip,0,", "skip,3,"), ["line 2", "`seconds` must be 0 for skip", "3"]),
    (TABLE + "phone,skip,0,0,0\n", ["line 8", "'phone'", "line 5 already"]),
    (TABLE + "phone,qat-w2a2-u4,0,0,0\n", ["line 8", "line 7 already"]),
    (TABLE + "phone,fp32,0,0\n", ["line 8", "5 values", "has 4"]),
    (TABLE + ",fp32,0,0,0\n", ["line 8", "`client`", "empty"]),
    (TABLE + '"phone,fp32,0,0,0\n', ["line 8", "valid CSV"]),
    (
        "client,strategy,seconds,loss,allowed\na,skip,0,0,perhaps\n",
        ["line 2", "`allowed`", "'perhaps'"],
    ),
    (
        "client,strategy,seconds,loss,group\na,skip,0,0,x\na,fp32,1,0,y\n",
        ["line 3", "`group`", "'y' here and 'x' before"],
    ),
]


@pytest.mark.parametrize(("text", "parts"), BAD_TABLES)
def test_a_fault_of_a_csv_is_told_with_its_place(table, capsys, text, parts) -> None:
    table.write_text(text, encoding="utf-8")
    assert plan(table, "--tradeoff", 1) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"fedhq: error: {table}")
    for part in parts:
        assert part in told


GOOD = '{"strategies": ["skip", "fp32"], "seconds": [[0, 1]], "loss": [[0.1, 0]]'


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD, ["valid JSON", "line 1"]),
        ("[1, 2]", ["must be a JSON object", "`strategies`"]),
        ("[" * 100_000, ["valid JSON", "recursion"]),
        ('{"strategies": ["fp32"], "seconds": [[1]]}', ["`loss` lacks"]),
        (GOOD + ', "trade": 1}', ["`trade`", "Perhaps you mean `tradeoff`"]),
        (GOOD + ', "loss": 1}', ["`loss` stands twice"]),
        (GOOD.replace("0.1", "NaN") + "}", ["`NaN`", "no number of JSON"]),
        (GOOD.replace("0.1", "1e999") + "}", ["`loss[0][0]`", "finite"]),
        (GOOD.replace("0.1", "1" + "0" * 400) + "}", ["`loss[0][0]`", "finite"]),
        (GOOD.replace("0.1", "-1") + "}", ["`loss[0][0]`", ">= 0", "-1"]),
        (GOOD.replace("0.1", '"0.1"') + "}", ["`loss[0][0]`", "number", '"0.1"']),
        (GOOD.replace("0.1", "true") + "}", ["`loss[0][0]`", "number", "true"]),
        (GOOD.replace("[[0.1, 0]]", "[[0.1], [0]]") + "}", ["`loss`", "(1, 2)", "(2, 1)"]),
        (GOOD.replace("[[0.1, 0]]", "[0.1, 0]") + "}", ["`loss`", "row 0"]),
        (GOOD + ', "tradeoff": "much"}', ["`tradeoff`", '"much"']),
        (GOOD + ', "allowed": [[1, 1]]}', ["`allowed[0][0]`", "true or false", "1"]),
        (GOOD + ', "clients": [7]}', ["`clients[0]`", "text", "7"]),
        (GOOD + ', "clients": {"a": 1}}', ["`clients`", "list"]),
        (GOOD + ', "groups": [1]}', ["`groups[0]`", "text or null"]),
        (GOOD + ', "budgets": [{"resource": "b"}]}', ["budgets[0]", "`usage`, `limit` lacks"]),
        (GOOD + ', "budgets": [5]}', ["budgets[0]", "object"]),
        (GOOD + ', "counts": [{"strategies": ["fp32"], "at_most": 1.5}]}', ["whole", "1.5"]),
        (GOOD + ', "counts": [{"strategies": ["ptq-w2a2"]}]}', ["`counts`", "ptq-w2a2"]),
        (GOOD + ', "coverage": {"teaches": [0, 1]}}', ["coverage", "`label_counts`"]),
        (GOOD.replace('"fp32"', '"magic"') + "}", ["'magic'", "'qat-w2a2'"]),
    ],
)
def test_a_fault_of_a_json_is_told_with_its_field(tmp_path, capsys, text, parts) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(text, encoding="utf-8")
    assert plan(path, "--tradeoff", 1) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"fedhq: error: {path}: ")
    for part in parts:
        assert part in told


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (TABLE.encode("utf-16"), ["UTF-8", "byte 0"]),
        (TABLE.replace("phone", "télé").encode("latin-1"), ["line 5", "UTF-8"]),
        (TABLE.encode("utf-16-le"), ["UTF-8", "byte 1"]),
    ],
)
def test_another_encoding_is_named(table, capsys, content, parts) -> None:
    table.write_bytes(content)
    assert plan(table, "--tradeoff", 1) == 2
    told = capsys.readouterr().err
    for part in (str(table), *parts):
        assert part in told


def test_a_byte_order_mark_and_blank_lines_do_no_harm(table, tmp_path) -> None:
    out = tmp_path / "plan.csv"
    table.write_bytes(b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n\r\n").encode())
    assert plan(table, "--tradeoff", 20, "--out", out) == 0
    assert written(out) == strategies(with_goal(tradeoff=20), Sweep())


def test_an_endless_file_is_refused_after_a_bounded_read(table, monkeypatch, capsys) -> None:
    monkeypatch.setattr(plan_files, "MOST_BYTES", 1 << 20)
    assert plan("/dev/zero") == 2
    assert "`size <= 1 MiB` must hold" in capsys.readouterr().err


LABELS = "client,class,count\ntablet,0,5\nphone,1,5\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (LABELS.replace("class", "label"), ["client, class, count", "'label'"]),
        (LABELS.replace("phone", "watch"), ["line 3", "'watch'"]),
        (LABELS + "phone,1,2\n", ["line 4", "'phone'", "'1'", "twice"]),
        (LABELS.replace("5", "five"), ["line 2", "`count`", "'five'"]),
        ("client,class,count\n", ["`label_counts`", "at least one class"]),
    ],
)
def test_a_fault_of_the_labels_is_told(table, tmp_path, capsys, text, parts) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(text, encoding="utf-8")
    assert plan(table, "--labels", labels, "--tradeoff", 1) == 2
    told = capsys.readouterr().err
    for part in parts:
        assert part in told


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--pick", "best"], ["--pick 'best'", "fastest-within=LOSS"]),
        (["--pick", "fastest-within=few"], ["--pick", "'few'"]),
        (["--pick", "most-accurate-within=-1"], ["`round_seconds`", "-1"]),
        (["--pick", "knee", "--tradeoff", "1"], ["`--pick`", "Leave one out"]),
        (["--count", "qat-w2a2>3"], ["--count 'qat-w2a2>3'", "'qat-w2a2>=3'"]),
        (["--count", "fp32>=1"], ["`counts`", "fp32"]),
        (["--limit", "uplink_bytes"], ["--limit 'uplink_bytes'", "uplink_bytes=12e6"]),
        (["--limit", "uplink_bytes=nan"], ["uplink_bytes", "nan"]),
        (["--limit", "energy_joules=1"], ["--limit energy_joules", "uplink_bytes"]),
        (["--limit", "loss=1"], ["--limit loss", "uplink_bytes"]),
        (["--tradeoff", "nan"], ["`tradeoff`", "nan"]),
        (["--tradeoff", "1", "--gap", "-1"], ["`0 <= gap < inf`", "-1"]),
        (["--solver", "sweep", "--gap", "1"], ["--gap", "sweep"]),
        (["--solver", "dual", "--time-limit", "1"], ["--time-limit", "dual"]),
        (
            ["--tradeoff", "1", "--solver", "sweep", "--count", "qat-w2a2>=1"],
            ["--solver sweep", "counts", "--solver exact"],
        ),
        (["--out", "plan.txt"], ["--out plan.txt", ".csv or .json"]),
        (["--frontier", "f.png"], ["--frontier f.png", ".html or .csv"]),
        (["--out", "a.csv", "--frontier", "a.csv"], ["--frontier a.csv", "--out"]),
        (["--labels", "gone.csv"], ["gone.csv", "No such file"]),
    ],
)
def test_a_fault_of_an_option_is_told(table, tmp_path, monkeypatch, capsys, options, parts) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan(table, *options) == 2
    told = capsys.readouterr().err
    assert told.startswith("fedhq: error: ")
    for part in parts:
        assert part in told
    assert list(tmp_path.iterdir()) == [table]


def test_an_input_is_never_overwritten(table, tmp_path, capsys) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(table)
    labels = tmp_path / "labels.csv"
    labels.write_text(LABELS, encoding="utf-8")
    for out in (table, link, labels):
        assert plan(table, "--labels", labels, "--tradeoff", 1, "--out", out) == 2
        assert f"--out {out}: must not be a file that is read" in capsys.readouterr().err
    assert table.read_text("utf-8") == TABLE
    assert labels.read_text("utf-8") == LABELS


def test_the_page_draws_the_frontier_marks_the_plan_and_needs_no_network(
    table, tmp_path, capsys
) -> None:
    page = tmp_path / "frontier.html"
    assert plan(table, "--tradeoff", 100, "--frontier", page) == 0
    text = page.read_text("utf-8")
    assert "chosen</span>" in text
    assert f"fedhq plan {table} --tradeoff 100 --frontier {page}" in text
    assert not re.search(r"(src|href)=.https?:", text.partition("<script")[0])
    plots = text.partition('id="plots">')[2].partition("</script>")[0]
    line, chosen = json.loads(plots)[0][0]["data"]
    frontier, a = pareto_frontier(PROBLEM), solve(with_goal(tradeoff=100), Sweep()).allocation
    assert line["x"] == frontier.round_seconds.tolist()
    assert line["y"] == pytest.approx((100 * frontier.loss).tolist())
    assert (chosen["x"], chosen["y"]) == ([a.round_seconds], pytest.approx([100 * a.loss]))


def test_a_page_without_plotly_says_what_to_install_and_that_csv_needs_nothing(
    table, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert plan(table, "--frontier", tmp_path / "f.html") == 2
    told = capsys.readouterr().err
    for part in ("fedhq[report]", "--frontier FILE.csv"):
        assert part in told
    assert plan(table, "--frontier", tmp_path / "f.csv") == 0


def run(*arguments: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedhq.studies", "plan", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_the_console_reads_standard_input_and_its_exit_status_tells(tmp_path) -> None:
    out = tmp_path / "plan.csv"
    assert run("-", "--tradeoff", 20, "--out", out, text=TABLE).returncode == 0
    assert written(out) == strategies(with_goal(tradeoff=20), Sweep())
    assert run("-", "--tradeoff", 10, text=GOOD + "}").returncode == 0
    infeasible = run("-", "--deadline", 0, "--min-participation", 1, text=TABLE)
    assert infeasible.returncode == 1
    assert "deadline_seconds >= 2" in infeasible.stderr
    faulty = run("-", text=TABLE.replace("1.4", "x"))
    assert faulty.returncode == 2
    assert faulty.stderr.startswith("fedhq: error: standard input, line 4: ")


def test_a_reader_that_has_enough_is_no_fault() -> None:
    command = [sys.executable, "-m", "fedhq.studies", "plan", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_demo_runs_and_loads_nothing_that_only_training_needs() -> None:
    code = (
        "import sys\nfrom fedhq.studies.entry import main\n"
        "assert main(['plan', 'demo', '--explain', 'phone-2']) == 0\n"
        "heavy = {'torch', 'pydantic', 'rich', 'plotly', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for part in ("uplink_bytes", "the knee", "old-phone-2", str(EXAMPLE)):
        assert part in done.stdout


def test_help_teaches_both_formats_with_examples_that_run(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        plan("--help")
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for part in (
        "fedhq plan demo",
        "JSON",
        "CSV",
        "client, strategy, seconds, loss",
        "exit status",
    ):
        assert part in printed
    examples = [line for line in printed.splitlines() if line.startswith("  fedhq plan demo")]
    assert len(examples) >= 2
    for line in examples:
        words = line.strip().partition("  ")[0].partition(" --frontier")[0].split()
        assert main(words[1:]) == 0


def test_two_counts_of_the_same_strategies_are_one_range(capsys) -> None:
    counts = ("--count", "qat-w2a2>=3", "--count", "qat-w2a2<=4")
    assert plan("demo", "--tradeoff", 200, *counts) == 0
    rows = re.findall(r"^\s+\S+\s+qat-w2a2\s", capsys.readouterr().out, re.MULTILINE)
    assert 3 <= len(rows) <= 4


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("fp32, skip<=3", (2, 3)),
        ("skip,fp32>=4", (4, 5)),
        ("skip,fp32>=0", (0, 5)),
        ("skip,fp32=0", (0, 0)),
        ("skip,fp32=7", (7, 7)),
    ],
)
def test_a_count_replaces_the_side_it_sets_and_keeps_the_other(text, bounds) -> None:
    other = Count(["fp32"], 1)
    kept, merged = with_count([Count(["skip", "fp32"], 2, 5), other], text)
    assert kept == other
    assert (merged.at_least, merged.at_most) == bounds


def test_counts_that_contradict_each_other_are_told_with_the_option() -> None:
    with pytest.raises(ValueError, match=r"--count 'fp32<=1': at least 2 and at most 1"):
        with_count([Count(["fp32"], 2)], "fp32<=1")


def test_the_solver_that_is_named_finds_the_frontier_and_its_gap_is_told(tmp_path, capsys) -> None:
    drawn = tmp_path / "frontier.csv"
    problem = problem_from_json(Source("demo", (EXAMPLE / "fleet.json").read_text("utf-8")))
    gap = pareto_frontier(problem, solver=Dual(0.5)).gap
    assert gap > 1e-4
    told = f"no time has a loss lower than this by more than {POINTS.text(gap)}"
    assert plan("demo", "--solver", "dual", "--gap", 0.5, "--frontier", drawn) == 0
    assert capsys.readouterr().out.count(told) == 2
    assert plan("demo") == 0
    assert "lower than this" not in capsys.readouterr().out


def test_many_clients_have_the_frontier_of_the_dual_unless_a_solver_is_named(
    tmp_path, monkeypatch
) -> None:
    asked = []

    def recorded(solver: type) -> None:
        answer = solver.__call__

        def call(self: object, problem: AllocationProblem, /) -> Answer:
            asked.append(self)
            return answer(self, problem)

        monkeypatch.setattr(solver, "__call__", call)

    recorded(Dual)
    recorded(Exact)
    rows = [
        f"c{i},{s},{seconds},{loss},{used}"
        for i in range(31)
        for s, seconds, loss, used in (("ptq-w2a2", 1 + i % 3, 0.01, 0), ("qat-w2a2", 4, 0, 5e3))
    ]
    path = tmp_path / "many.csv"
    path.write_text("\n".join(["client,strategy,seconds,loss,uplink_bytes", *rows]), "utf-8")
    assert plan(path, "--limit", "uplink_bytes=5e4") == 0
    assert Dual() in asked
    asked.clear()
    assert plan(path, "--limit", "uplink_bytes=5e4", "--solver", "exact", "--time-limit", 60) == 0
    assert set(asked) == {Exact(0.0, 60.0)}
