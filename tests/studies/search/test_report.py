"""The report of searches: complete, honest, self-contained; in a browser without faults."""

import html
import json
import re
from dataclasses import replace

import numpy as np
import optuna
import pytest
from search_studies import Policies, make_study
from search_tables import tiny

from fedhq.allocator import FedHQError
from fedhq.allocator.explain.quantities import Unit
from fedhq.studies.dashboard.attributes import trial_attributes
from fedhq.studies.search.config.settings import parse_search, resolved_search
from fedhq.studies.search.record import to_json
from fedhq.studies.search.report.details import Details, notable_trials
from fedhq.studies.search.report.preferences import read_preference, usual_preferences
from fedhq.studies.search.report.report import report_studies, write_report
from fedhq.studies.search.report.trial_text import trial_config, trial_text
from fedhq.studies.search.report.view import StudyView

MOST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def policies():
    return Policies(clients=12)


def written(folder, views, details=(), **options):
    path = folder / "report.html"
    write_report(path, views, details, **options)
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def study(policies):
    return make_study(60, policies, failed=2, limits={"round_seconds": 14.0})


@pytest.fixture(scope="module")
def view(study):
    return StudyView.of(study)


@pytest.fixture(scope="module")
def page(study, view, policies, tmp_path_factory):
    details = Details.of(study, view, "'my runs/search'", policies)
    command = "fedhq study report 'my runs/search'"
    return written(tmp_path_factory.mktemp("page"), [view], [details], command=command)


def markup_of(page):
    """The page without what stands in its scripts."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.S)


def text_of(page):
    return html.unescape(re.sub(r"<[^>]+>", " ", markup_of(page)))


def titles_of(page):
    return re.findall(r"<figure><div class=bar><h3>(.*?)</h3>", markup_of(page))


def rows_of(page):
    body = re.search(r"<tbody>(.*?)</tbody>", markup_of(page), re.S)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
    return [[html.unescape(cell) for cell in row] for row in found]


def cards_of(page):
    return re.findall(r"<article class=pick>(.*?)</article>", markup_of(page), re.S)


# --- Complete and honest ---


def test_the_page_loads_nothing(page):
    markup = markup_of(page)
    assert not re.search(r"<script[^>]*\ssrc", page)
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:)?//""", markup)
    assert "default-src 'none'" in markup
    assert len(page) < MOST_BYTES


def test_every_part_is_there_and_every_figure_has_words(page):
    expected = [
        "Trials and front", "Regret", "Who did what", "Who is waited for",
        "Strategies along the trade-off", "Shadow prices", "What matters",
    ]  # fmt: skip
    assert titles_of(page) == expected
    assert markup_of(page).count("How to read.") == len(expected)
    assert len(re.findall(r'role=img [^>]*aria-label="[^"]{40,}"', markup_of(page))) == 7


def test_the_table_is_the_front_with_its_records(page, view):
    rows = rows_of(page)
    assert [int(row[0]) for row in rows] == [view.trials[k].number for k in view.front.tolist()]
    for row in rows:
        record = view.trials[int(row[0])].record
        assert float(row[1].removesuffix(" s")) == pytest.approx(
            record.measures["round_seconds"], rel=1e-3
        )
        assert float(row[2]) == pytest.approx(100 * record.measures["accuracy_loss"], abs=0.006)
        clients = ", ".join(f"{n} {name}" for name, n in record.counts.items() if n)
        assert clients in row


def test_a_card_shows_what_each_preference_picks(page, view):
    cards = cards_of(page)
    for preference in usual_preferences(view):
        best = view.best(preference.rule)
        own = [card for card in cards if html.escape(preference.words(view.axes)) in card]
        assert len(own) == 1
        assert f"trial {best.number}<" in own[0]
        assert f"fedhq study report 'my runs/search' --trial {best.number}" in html.unescape(own[0])
        for key in best.params:
            assert f"<dt>{key}</dt>" in own[0]


def test_stated_preferences_replace_the_usual_ones(view, tmp_path):
    knee, quick = read_preference("knee"), read_preference("most-accurate-within=0.001")
    cards = cards_of(written(tmp_path, [view], preferences=[knee, quick]))
    assert len(cards) == 2
    assert "Knee of the front" in cards[0]
    assert "No trial: `round_seconds >= " in html.unescape(cards[1])


def test_where_it_is_from_is_told(page, view):
    text = text_of(page)
    provenance = next(iter(view.record.provenance.values()))
    for told in (
        view.record.digest, view.record.command, provenance["started"], provenance["python"],
        f"optuna {optuna.__version__}", "60 complete, 2 fail", "2 trials: the <device> went away",
        "round_seconds ≤ 14", '"path": "fleet.json"',
    ):  # fmt: skip
        assert told in text


def test_the_verdict_counts_and_names_the_regret(page, view):
    feasible = int(view.feasible.sum())
    text = text_of(page)
    assert f"Of 62 trials {feasible} are feasible, {60 - feasible} broke a limit, 2 failed." in text
    assert "of the exact frontier's hypervolume is missing (the sampler alone:" in text


def test_a_trained_study_claims_no_regret_and_tells_the_spread(policies, tmp_path):
    study = make_study(12, policies, evaluate="training", seeds=(0, 1, 2))
    page = written(tmp_path, [StudyView.of(study)])
    assert "so no regret is claimed" in text_of(page)
    assert "Progress" in titles_of(page)
    assert "Regret" not in titles_of(page)
    record = StudyView.of(study).trials[int(rows_of(page)[0][0])].record
    losses = [own["accuracy_loss"] for own in record.per_seed]
    mean, spread = 100 * (1 - np.mean(losses)), 100 * np.std(losses, ddof=1)
    assert rows_of(page)[0][2] == f"{mean:.1f} ± {spread:.1f} %"


def test_records_alone_make_a_page(view, tmp_path):
    page = written(tmp_path, [view])
    assert titles_of(page) == ["Trials and front", "Regret", "Who did what"]
    assert "in the fleet's order" in text_of(page)


class Broken:
    def plan(self, params, seed=None):
        raise FedHQError("the <table> is gone")


def test_policies_that_cannot_be_planned_again_are_told(study, view, tmp_path):
    page = written(tmp_path, [view], [Details.of(study, view, "PLACE", Broken())])
    assert "only records are shown: the <table> is gone" in text_of(page)
    assert "What matters" in titles_of(page)


def test_plans_that_differ_from_their_records_are_named(study, view, tmp_path):
    other = Details.of(study, view, "PLACE", Policies(clients=12, seed=1))
    text = text_of(written(tmp_path, [view], [other]))
    told = " ".join(text.split())
    assert re.search(r"in trials [\d, ]+ some clients do other than was recorded", told)


@pytest.mark.parametrize("trials", [0, 4])
def test_a_study_without_feasible_trials_says_what_is_broken(policies, trials, tmp_path):
    view = StudyView.of(make_study(trials, policies, limits={"round_seconds": 1e-6}))
    text = text_of(written(tmp_path, [view]))
    expected = "Broken limits: round_seconds (in 4 trials)" if trials else "No trial has been"
    assert expected in text


def test_names_are_escaped(policies, tmp_path):
    view = StudyView.of(make_study(6, policies, name="<i>s</i> & 'co'</script>"))
    page = written(tmp_path, [view], command="fedhq 'a <b>'")
    assert "<i>" not in markup_of(page)
    assert html.escape(view.name) in markup_of(page)
    assert html.escape("fedhq 'a <b>'") in markup_of(page)


# --- Cohorts, other objectives, targets ---


def test_a_search_of_cohorts_has_a_page_with_the_ids_of_its_clients(tmp_path):
    cohort = Policies(clients=4, fleet=9)
    study = make_study(20, cohort)
    view = StudyView.of(study)
    for details in ([], [Details.of(study, view, "PLACE", cohort)]):
        for card in cards_of(written(tmp_path, [view], details)):
            number = int(re.search(r"trial (\d+)<", card)[1])
            row = cohort.plan(view.trials[number].params, 0).solution.allocation.bottleneck
            assert f"<dt>slowest client</dt><dd>{cohort.clients[row]}</dd>" in card
    for trial in view.trials[:3]:
        assert "every client does what was recorded" in trial_text(view, trial, cohort)
        other = trial_text(view, trial, Policies(clients=4, fleet=9, seed=1))
        assert "of 4 clients, which are not the 4 recorded ones" in other


def test_all_of_three_objectives_are_in_table_and_cards(policies, tmp_path):
    names = ("round_seconds", "accuracy_loss", "energy_joules")
    view = StudyView.of(make_study(40, policies, objectives=names))
    page = written(tmp_path, [view])
    rows = rows_of(page)
    assert [int(row[0]) for row in rows] == [view.trials[k].number for k in view.front.tolist()]
    for row in rows:
        joules = view.trials[int(row[0])].values[2]
        assert row[3] == Unit.of("energy_joules").text(joules)
    assert "Not drawn is energy joules" in text_of(page)
    least = [card for card in cards_of(page) if "Least energy joules" in card]
    assert len(least) == 1
    assert f"trial {view.best_in('energy_joules').number}<" in least[0]


def test_a_study_without_accuracy_says_nothing_of_it(policies, tmp_path):
    view = StudyView.of(make_study(20, policies, objectives=("round_seconds", "energy_joules")))
    page = text_of(written(tmp_path, [view]))
    assert "accura" not in page.replace("accuracy_loss", "")
    assert "Least energy joules" in page


def test_a_target_that_was_not_reached_is_shown_as_such_and_only_where_asked_for(policies):
    study = make_study(2, policies, evaluate="training", seeds=(0, 1))
    view = StudyView.of(study)
    assert "target" not in trial_text(view, view.trials[0], policies)
    record = view.trials[0].record
    for seconds, shortfalls, told in (
        (8.0, (0.1, -0.1), "seconds_to_target = not reached with 1 of 2 seeds"),
        (6.0, (-0.1, -0.2), "seconds_to_target = 6 (6, 6)"),
    ):
        own = [{"seconds_to_target": seconds, "target_shortfall": s} for s in shortfalls]
        measures = {**record.measures, **own[0]}
        changed = replace(record, measures=measures, per_seed=tuple(own))
        text = trial_text(view, replace(view.trials[0], record=changed), policies)
        assert told in text
        assert "shortfall" not in text
        assert trial_attributes({"fedhq": to_json(changed)})["seconds_to_target"] in (
            6.0, "not reached with 1 of 2 seeds",
        )  # fmt: skip


def test_no_run_is_written_of_a_trial_that_names_every_clients_strategy():
    table = tiny(space={"clients": {"choices": ["ptq-w2a2", "qat-w2a2"]}})
    study = make_study(1, config=resolved_search(parse_search(table)))
    view = StudyView.of(study)
    by_client = {f"clients.{k}": "ptq-w2a2" for k in range(4)}
    with pytest.raises(ValueError, match="trial 0 names the strategy of every client"):
        trial_config(view, replace(view.trials[0], params=by_client))
    arm = replace(view.trials[0], params={"arm": "qat-w2a2"})
    assert 'strategy = "qat-w2a2"' in trial_config(view, arm)


# --- Several studies, whole studies ---


def test_several_studies_share_a_frontier_and_have_their_sections(policies, tmp_path):
    views = [StudyView.of(make_study(20, policies, name=n, seed=k)) for k, n in enumerate("ab")]
    page = written(tmp_path, views)
    assert titles_of(page).count("Trials and front") == 1
    for k, view in enumerate(views):
        assert f'<a href="#study-{k}">{view.name}</a>' in page
        assert f'<section id="study-{k}"><h2>{view.name}</h2>' in page


def test_studies_that_trade_other_things_are_refused_by_name(policies, tmp_path):
    first = make_study(3, policies, name="one")
    others = [
        make_study(3, policies, name="two", evaluate="training"),
        make_study(0, policies, name="two", objectives=("accuracy_loss", "uplink_bytes")),
    ]
    for other in others:
        with pytest.raises(ValueError, match=r"'one' has round_seconds .* 'two' has"):
            report_studies(tmp_path / "r.html", [first, other], ["a", "b"], "")
    assert list(tmp_path.iterdir()) == []


def test_notable_trials_are_the_picks_and_both_ends(view):
    trials = notable_trials(view, usual_preferences(view))
    numbers = [trial.number for trial in trials]
    for preference in usual_preferences(view):
        assert view.best(preference.rule).number in numbers
    assert numbers[0] == view.trials[view.front[0]].number
    assert numbers[-1] == view.trials[view.front[-1]].number


# --- In a browser ---


@pytest.mark.slow
def test_the_page_has_no_faults_and_fits_a_phone(page, browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    drawn = "return document.querySelectorAll('.plot .main-svg').length"
    for width in (1280, 390):
        for dark in (False, True):
            browser.open(path.as_uri(), width, dark=dark)
            browser.photograph(tmp_path / f"{width}.png")
            browser.wait_for("What matters")
            browser.wait_until(lambda: browser.run(drawn), lambda n: n >= 7, "seven plots drawn")
            assert browser.run("return document.documentElement.scrollWidth") == width
            assert browser.faults() == []
    loaded = "return performance.getEntriesByType('resource').map((r) => r.name)"
    assert [name for name in browser.run(loaded) if name.startswith("http")] == []
    second, told = browser.run(
        "const s = document.querySelector('select'); s.value = 1;"
        "s.dispatchEvent(new Event('change'));"
        "return [s.options[1].text,"
        " s.closest('figure').querySelector('.plot').getAttribute('aria-label')]"
    )
    assert f"in trial {second};" in told


@pytest.mark.slow
def test_ten_thousand_trials_open_fast(policies, browser, tmp_path):
    study = make_study(10_000, policies)
    view = StudyView.of(study)
    page = written(tmp_path, [view], [Details.of(study, view, "PLACE", policies)])
    assert len(page) < MOST_BYTES
    plots = re.search(r'<script type="application/json" id="plots">(.*?)</script>', page, re.S)
    assert len(json.loads(plots[1])) == 7
    assert len(plots[1]) < 500_000
    browser.open((tmp_path / "report.html").as_uri())
    browser.wait_for("Trials and front")
    nodes = browser.run("return document.querySelectorAll('*').length")
    assert nodes < 10_000  # none for each trial
