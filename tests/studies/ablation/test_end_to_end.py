"""What is asked of federations, and what is said of them: who wins does so in every seed."""

import json
from dataclasses import asdict

import pytest

from fedhq.studies.ablation.end_to_end import (
    END_TO_END_FILE,
    EndToEnd,
    EndToEndSettings,
    grouped,
    read_end_to_end,
)
from fedhq.studies.ablation.federations import federation_table, federation_verdict
from fedhq.studies.faults import validate


def record(solver, seed, decisions="x", accuracy=0.5, seconds=1.0):
    return EndToEnd(
        solver, "", "1", seed, "run", "key", "", 1, seconds, accuracy, 0.1, 0.1, decisions,
        ((1, seconds, accuracy),),
    )  # fmt: skip


def failed(solver, seed):
    return EndToEnd(solver, "", "1", seed, "run", "key", "it broke down")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"solver": ["exact"]}, "end_to_end.solver = .* Did you mean `solvers`"),
        ({"solvers": []}, "end_to_end.solvers = "),
        ({"solvers": ["exat"]}, "end_to_end.solvers.0 = 'exat': .* Did you mean 'exact'"),
        ({"solvers": ["exact", "exact"]}, "end_to_end.solvers = .*has 'exact' twice"),
        ({"seeds": [1, 1]}, "end_to_end.seeds = .*has 1 twice"),
        ({"rounds": 0}, "end_to_end.rounds = 0"),
        ({"workers": 0}, "end_to_end.workers = 0"),
    ],
)
def test_faults_of_the_settings_name_the_key(table, says):
    with pytest.raises(ValueError, match=says):
        validate(EndToEndSettings, table, "end_to_end")


def test_records_read_back_and_foreign_lines_are_an_error(tmp_path):
    records = (record("a", 0), failed("b", 0))
    path = tmp_path / END_TO_END_FILE
    path.write_text("".join(json.dumps(asdict(r)) + "\n" for r in records), "utf-8")
    assert read_end_to_end(tmp_path) == records
    path.write_text('{"solver": "a"}\n', "utf-8")
    with pytest.raises(ValueError, match=r"line 1 of .*must have the keys"):
        read_end_to_end(tmp_path)
    assert read_end_to_end(tmp_path / "none") == ()


def test_who_decided_alike_in_one_seed_only_is_apart():
    records = [
        record("a", 0, "x"), record("a", 1, "y"), record("b", 1, "y"), record("b", 0, "x"),
        record("c", 0, "x"), record("c", 1, "z"),
    ]  # fmt: skip
    assert [solvers for solvers, own in grouped(records)] == [("a", "b"), ("c",)]
    assert [row[1] for row in federation_table(records)[1]] == ["A", "A", "B"]


def test_the_verdict_names_who_is_ahead_in_every_seed_and_by_how_much():
    records = [
        record("a", 0, "x", 0.6, 1.0), record("b", 0, "x", 0.6, 1.0), record("c", 0, "y", 0.9, 2.0),
        record("a", 1, "x", 0.5, 1.5), record("b", 1, "x", 0.5, 1.5), record("c", 1, "y", 0.6, 3.0),
    ]  # fmt: skip
    assert federation_verdict(records) == [
        "c had the highest deployed accuracy in each of 2 seeds: 0.750 on average, ahead of a, b "
        "by 0.100 to 0.300.",
        "a, b had the shortest rounds in each of 2 seeds: 1.25 s on average, ahead of c by 1 s to "
        "1.5 s.",
        "Told every client the same in every round and seed: a, b.",
    ]


def test_who_is_best_on_average_only_has_not_won():
    records = [
        record("a", 0, "x", 0.6, 1.0), record("b", 0, "y", 0.9, 0.5), record("c", 0, "z", 0.1, 9.0),
        record("a", 1, "x", 0.7, 1.0), record("b", 1, "y", 0.6, 1.0), record("c", 1, "z", 0.2, 9.0),
    ]  # fmt: skip
    assert federation_verdict(records) == [
        "Nobody had the highest deployed accuracy in each of 2 seeds: b on average, 0.750, but not "
        "always ahead of a (differences of -0.100 to 0.300).",
        "Nobody had the shortest rounds in each of 2 seeds: b on average, 750 ms, but not always "
        "ahead of a (differences of 0 s to 500 ms).",
    ]


def test_several_who_are_not_told_apart_are_all_named():
    records = [
        record("a", 0, "x", 0.9), record("b", 0, "y", 0.8), record("c", 0, "z", 0.7),
        record("a", 1, "x", 0.5), record("b", 1, "y", 0.5), record("c", 1, "z", 0.6),
    ]  # fmt: skip
    assert federation_verdict(records)[0] == (
        "Nobody had the highest deployed accuracy in each of 2 seeds: a on average, 0.700, but not "
        "always ahead of b; c (differences from c of -0.100 to 0.200)."
    )


def test_who_is_equal_in_every_seed_wins_or_not_together():
    records = [
        record("a", 0, "x", 0.8), record("b", 0, "y", 0.8), record("c", 0, "z", 0.7),
        record("a", 1, "x", 0.6), record("b", 1, "y", 0.6), record("c", 1, "z", 0.5),
    ]  # fmt: skip
    assert federation_verdict(records) == [
        "a; b had the highest deployed accuracy in each of 2 seeds: 0.700 on average, ahead of c "
        "by 0.100.",
        "All are equal in each of 2 seeds: 1 s on average are the shortest rounds.",
    ]


def test_one_seed_names_no_winner():
    records = [record("a", 0, "x", 0.6), record("b", 0, "y", 0.9, 2.0)]
    assert federation_verdict(records) == [
        "One seed names no winner: there b had the highest deployed accuracy, 0.900.",
        "One seed names no winner: there a had the shortest rounds, 1 s.",
    ]


def test_who_lacks_a_seed_is_not_compared_however_good_the_others_are():
    records = [
        record("a", 0, "x", 0.6), record("b", 0, "y", 0.5), record("lucky", 0, "z", 0.9),
        record("a", 1, "x", 0.6), record("b", 1, "y", 0.5), failed("lucky", 1),
    ]  # fmt: skip
    says = federation_verdict(records)
    assert says[0].startswith("a had the highest deployed accuracy in each of 2 seeds: 0.600")
    assert says[-1] == "Not compared, because a federation failed: lucky."
    assert federation_table(records)[1] == [
        ["a", "A", "0.600", "best", "1 s", "0.1000", "100 ms"],
        ["b", "B", "0.500", "0.100", "1 s", "0.1000", "100 ms"],
        ["lucky", "failed", "-", "-", "-", "-", "-"],
    ]


def test_the_table_tells_how_far_behind_the_best_seed_by_seed():
    records = [
        record("a", 0, "x", 0.9), record("b", 0, "y", 0.8),
        record("a", 1, "x", 0.5), record("b", 1, "y", 0.55),
    ]  # fmt: skip
    heads, (best, other) = federation_table(records)
    place = heads.index("behind the best")
    assert (best[place], other[place]) == ("best", "0.025 (-0.050 to 0.100)")


def test_where_all_decide_alike_there_is_no_winner():
    assert federation_verdict([record("a", 0), record("b", 0)]) == [
        "a, b came to a deployed accuracy of 0.500 with 1 s a round; nobody else decided "
        "otherwise.",
        "Told every client the same in every round and seed: a, b.",
    ]
    assert federation_verdict([failed("a", 0)]) == ["No solver trained a federation in every seed."]
