"""Notes, figures and tables against the records and the program that they come from."""

import csv
import io
import json
import re
import threading
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from ablation_cells import cell
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna_dashboard._custom_plot_data import is_valid_graph_object_id
from search_studies import Planned, Policies, make_study

from fedhq.allocator.instances import FAMILIES
from fedhq.allocator.solution import Allocation
from fedhq.studies.ablation.record import CELLS_FILE, cell_to_json
from fedhq.studies.dashboard.additions import Additions
from fedhq.studies.dashboard.allocation_table import allocation_csv
from fedhq.studies.dashboard.attributes import trial_attributes
from fedhq.studies.dashboard.compose import Composer
from fedhq.studies.dashboard.files import Files
from fedhq.studies.dashboard.notes import noted_trials, study_note, trial_note
from fedhq.studies.dashboard.plots import figures
from fedhq.studies.dashboard.refresh import Refresher
from fedhq.studies.dashboard.shown import ShownStorage
from fedhq.studies.dashboard.solver_plot import solver_figure
from fedhq.studies.search.report.details import Details
from fedhq.studies.search.report.preferences import usual_preferences
from fedhq.studies.search.report.view import StudyView


def table_of(note: str) -> list[list[str]]:
    """The cells of a note's table, without its head."""
    lines = [line for line in note.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_note_names_the_feasible_best_of_every_preference(study):
    view = StudyView.of(study)
    rows = table_of(study_note(view, 7, best_is_feasible=True))
    named = {row[0]: int(re.match(r"\d+", row[1])[0]) for row in rows}
    wanted = {p.words(view.axes): view.best(p.rule).number for p in usual_preferences(view)}
    assert named == wanted
    limit = view.record.limits["round_seconds"]
    assert all(study.trials[number].values[0] <= limit for number in named.values())
    assert any(t.values[0] > limit for t in study.trials)
    assert "/dashboard/studies/7/trials?numbers=" in rows[0][1]


def test_the_note_says_which_list_to_trust_only_where_the_card_is_wrong(study):
    view = StudyView.of(study)
    assert "Do not trust" in study_note(view, 0, best_is_feasible=False)
    assert "trust" not in study_note(view, 0, best_is_feasible=True)


def test_a_study_without_feasible_trials_says_which_limit_is_broken(make):
    view = StudyView.of(make(limits={"round_seconds": 0.01}))
    note = study_note(view, 0, best_is_feasible=True)
    assert "Of 30 trials 0 are feasible" in note
    assert "round\\_seconds (in 30 trials)" in note
    assert table_of(note) == []


def test_markup_in_names_stands_for_itself(make):
    view = replace(StudyView.of(make()), name="a*b* <script>|")
    assert "# a\\*b\\* \\<script\\>\\|\n" in study_note(view, 0, best_is_feasible=True)


def test_trials_that_matter_get_a_note_and_the_many_others_none(make):
    view = StudyView.of(make(300))
    noted = noted_trials(view)
    picked = {view.best(p.rule).number for p in usual_preferences(view)}
    uniform = {t.number for t in view.trials if t.source == "uniform"}
    assert picked | uniform <= {view.trials[place].number for place in noted}
    assert {int(view.front[0]), int(view.front[-1])} <= set(noted)
    assert len(noted) <= 30 + len(picked) + len(uniform)


def test_a_trial_note_tells_limits_counts_and_the_command(study):
    view = StudyView.of(study)
    assert any("\n" in trial.record.solver for trial in view.trials), "arrays in settings wrap"
    for trial in view.trials:
        note = trial_note(view, trial, ["on the front"], "runs/search")
        rows = dict(row[:2] for row in [["", ""], *table_of(note)])
        assert ("broken" in rows["limit of round\\_seconds"]) == (not trial.is_feasible)
        counts = re.findall(r"(\d+) \S+", rows["clients"])
        assert sum(map(int, counts)) == view.record.clients
        assert rows["who is waited for"] == f"client {trial.record.bottleneck}"
        assert f"--trial {trial.number}" in note
        assert rows["allocation.solver"] == trial.params["allocation.solver"]


@pytest.fixture(scope="module")
def large() -> tuple[StudyView, Details]:
    policies = Policies(clients=100)
    study = make_study(500, policies, limits={"round_seconds": 12.0})
    view = StudyView.of(study)
    return view, Details.of(study, view, "runs/search", policies)


def test_figures_are_small_legible_and_in_order(large):
    drawn = figures(*large)
    names = [name.split("-")[2] for name in drawn]
    assert names == ["frontier", "regret", "allocation", "waterfall", "mix", "prices"]
    assert list(drawn) == sorted(drawn)
    for name, text in drawn.items():
        assert is_valid_graph_object_id(name)
        assert len(text) < 100_000, name
        layout = go.Figure(json.loads(text)).layout  # raises where a property is unknown
        assert layout.height == 450
        assert layout.title.text
        assert layout.paper_bgcolor == "rgba(0,0,0,0)"


def test_a_search_that_has_just_begun_has_its_frontier_only(make):
    assert [name.split("-")[2] for name in figures(StudyView.of(make(0)), Details())] == [
        "frontier"
    ]


def test_the_allocation_table_adds_up_to_the_trial(study, policies):
    problem = FAMILIES["federated"](0, 30)  # with budgets
    for trial in StudyView.of(study).trials[:8]:
        record = trial.record
        made = Allocation.of(problem, np.array([int(k) for k in record.choice]))
        plan = Planned(problem, None, policies.clients)
        rows = list(csv.DictReader(io.StringIO(allocation_csv(record, plan).decode())))
        assert [row["client"] for row in rows] == list(problem.clients)
        assert {n: sum(r["strategy"] == n for r in rows) for n in record.menu} == record.counts
        seconds = np.array([float(row["seconds"]) for row in rows])
        waits = np.array([float(row["waits_seconds"]) for row in rows])
        assert seconds.max() == pytest.approx(made.round_seconds, rel=1e-5)
        works = np.array([row["strategy"] != "skip" for row in rows])
        assert (seconds + waits)[works] == pytest.approx(made.round_seconds, rel=1e-4)
        assert waits[~works].tolist() == [0.0] * int((~works).sum())
        for k, budget in enumerate(problem.budgets):
            used = sum(float(row[budget.resource]) for row in rows)
            assert used == pytest.approx(made.usage[k], rel=1e-4)


def test_without_the_problem_or_with_another_menu_the_table_still_has_strategies(study, policies):
    record = StudyView.of(study).trials[0].record
    other = replace(record, menu=("skip", "ptq-w4a4", "qat-w4a4"))
    for text in (
        allocation_csv(record, None),
        allocation_csv(other, Planned(policies.problem, None, policies.clients)),
    ):
        head, first, *_ = text.decode().splitlines()
        assert head == "client,strategy"
        assert first.split(",")[1] in (*record.menu, *other.menu)


def test_what_cannot_be_planned_again_leaves_out_figures_only(study, unplannable):
    composer = Composer(study, unplannable, "runs/search", best_is_feasible=True)
    assert [name.split("-")[2] for name in composer.all().figures] == [
        "frontier",
        "regret",
        "allocation",
    ]
    (file,) = composer.files().of_trial(0)
    assert file.make().decode().splitlines()[0] == "client,strategy"


def test_the_same_trials_are_planned_once(make, policies):
    class Counting:
        calls = 0

        def plan(self, params, seed=None):
            Counting.calls += 1
            return policies.plan(params, seed)

    study = make(40)
    composer = Composer(study, Counting(), "runs/search", best_is_feasible=True)
    composer.all()
    before = Counting.calls
    assert before > 0
    worst = max(study.trials, key=lambda t: t.values[0])
    study.add_trial(worst)  # changes nothing about the front
    composer.all()
    assert Counting.calls == before


# --- Cohorts, and what is no accuracy ---


@pytest.fixture(scope="module")
def cohort() -> Policies:
    return Policies(clients=4, fleet=9)


def test_a_search_of_cohorts_is_shown_by_the_ids_of_its_clients(cohort):
    study = make_study(20, cohort)
    composer = Composer(study, cohort, "runs/search", best_is_feasible=True)
    view = StudyView.of(study)
    assert max(cohort.clients) >= 4  # no place is an id
    for additions in (composer.first(), composer.all()):
        drawn = json.loads(additions.figures["fedhq-2-allocation"])["data"][0]
        assert sorted(map(int, drawn["y"])) == list(cohort.clients)
    for trial in view.trials[:5]:
        allocation = cohort.plan(trial.params, 0).solution.allocation
        slowest = f"client {cohort.clients[allocation.bottleneck]}"
        assert slowest in trial_note(view, trial, ["x"], "runs/search")
        shown = trial_attributes(study.trials[trial.number].user_attrs)
        assert shown["bottleneck"] == slowest
        (file,) = composer.files().of_trial(trial.number)
        rows = list(csv.DictReader(io.StringIO(file.make().decode())))
        assert [int(row["client"]) for row in rows] == list(cohort.clients)
        assert [row["strategy"] for row in rows] == [str(allocation.strategy(k)) for k in range(4)]
        assert "seconds" in rows[0]


def test_titles_claim_an_exact_frontier_only_where_there_is_one(policies, make):
    def titles(study):
        drawn = figures(StudyView.of(study), Details())
        return [json.loads(text)["layout"]["title"]["text"] for text in drawn.values()]

    assert titles(make())[:2] == ["Trials against the exact frontier", "How far from provably best"]
    trained = make(evaluate="training")
    assert titles(trained)[:2] == ["Trials and their front", "How the search came to its best"]
    several = make(objectives=("round_seconds", "accuracy_loss", "energy_joules"))
    assert titles(several)[0] == "Trials and their front in 2 of 3 measures"


def test_a_strategy_has_one_colour_in_all_figures(large):
    hues = {}
    for name, text in figures(*large).items():
        for trace in json.loads(text)["data"]:
            strategy = (trace.get("name") or "").partition(" ")[0]
            if strategy in large[0].record.menu:
                hue = trace.get("fillcolor") or trace["marker"]["color"]
                hues.setdefault(strategy, {})[name] = hue
    assert any(len(own) > 1 for own in hues.values())
    for own in hues.values():
        assert len(set(own.values())) == 1, hues


def test_no_run_is_offered_of_a_search_that_names_every_clients_strategy(make, policies):
    def offered(space):
        study = make(3)
        table = study.user_attrs["fedhq"]
        config = {"menu": [], "search": {**table["config"]["search"], "space": space}}
        study.set_user_attr("fedhq", {**table, "config": config})
        composer = Composer(study, policies, "runs/search", best_is_feasible=True)
        return [file.name for file in composer.files().of_trial(0)]

    assert offered({"allocation.pick_loss": {}}) == ["allocation.csv", "run.toml"]
    assert offered({"clients": {}}) == ["allocation.csv"]


def journal(path):
    return JournalStorage(JournalFileBackend(str(path)))


def refresher(study, make, every=0.01):
    shown = ShownStorage(study._storage, study._study_id, Files())
    return shown, Refresher(study._storage, study._study_id, shown, make, every)


def note_in(shown, study) -> str:
    return shown.get_study_system_attrs(study._study_id).get("dashboard:note_str:0", "")


def test_trials_of_another_process_are_seen_and_nothing_is_made_without_them(make, tmp_path):
    import optuna

    study = make(5, storage=journal(tmp_path / "journal.log"))
    made = []

    def additions():
        made.append(len(study.trials))
        return Additions(f"{made[-1]} trials")

    shown, background = refresher(study, additions)
    background.refresh()
    background.refresh()
    assert (made, note_in(shown, study)) == ([5], "5 trials")
    elsewhere = optuna.load_study(
        study_name=study.study_name, storage=journal(tmp_path / "journal.log")
    )
    trial = elsewhere.ask()
    background.refresh()
    assert made == [5]  # it runs still
    elsewhere.tell(trial, [1.0, 0.5])
    background.refresh()
    assert (made, note_in(shown, study)) == ([5, 6], "6 trials")


def test_a_fault_is_told_and_what_was_shown_stays(make, capsys):
    study = make(5)
    failed = threading.Event()

    def additions():
        if failed.is_set() or len(study.trials) > 5:
            failed.set()
            raise OSError("the disk is gone")
        return Additions("five")

    shown, background = refresher(study, additions)
    background.refresh()
    background.start()
    study.add_trial(study.trials[0])
    assert failed.wait(20)
    background.end()
    assert not background.is_alive()
    assert note_in(shown, study) == "five"
    assert "could not refresh the dashboard: OSError('the disk is gone')" in capsys.readouterr().err


def test_an_ablation_shows_the_profile_of_its_solvers(tmp_path):
    times = {"fast": 0.001, "slow": 0.01}
    cells = [
        cell(solver, f"ties, {n}, 0", total=total)
        for n in (2, 3)
        for solver, total in times.items()
    ]
    lines = [json.dumps(cell_to_json(one)) + "\n" for one in cells]
    (tmp_path / CELLS_FILE).write_text("".join(lines), "utf-8")
    ((name, text),) = solver_figure(tmp_path).items()
    assert is_valid_graph_object_id(name)
    drawn = {line["name"]: line for line in json.loads(text)["data"]}
    assert set(drawn) == set(times)
    solved = {
        solver: dict(zip(line["x"], line["y"], strict=True)) for solver, line in drawn.items()
    }
    assert solved["fast"][1.0] == 1.0  # fastest on every problem
    assert solved["slow"][1.0] == 0.0  # on none


def test_an_ablation_that_is_not_through_with_any_problem_is_an_error_with_the_mend(tmp_path):
    cells = [cell("fast", "ties, 2, 0"), cell("slow", "ties, 3, 0")]
    lines = [json.dumps(cell_to_json(one)) + "\n" for one in cells]
    (tmp_path / CELLS_FILE).write_text("".join(lines), "utf-8")
    with pytest.raises(ValueError, match=r"(?s)no problem was given to all.*--out .* to its end"):
        solver_figure(tmp_path)


def test_a_folder_without_an_ablation_is_an_error_that_names_the_option(tmp_path):
    with pytest.raises(ValueError, match=r"--ablation .* `fedhq study ablation`"):
        solver_figure(tmp_path)
