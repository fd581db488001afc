"""The dashboard in a real browser: what people see of a search."""

import re
import threading
import time
import warnings
from contextlib import contextmanager

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from search_studies import Policies, make_study
from selenium.webdriver.common.by import By

from fedhq.studies.dashboard.session import address, dashboard

pytestmark = pytest.mark.slow
CLIENTS = 40
TITLES = (
    "Trials against the exact frontier",
    "How far from provably best",
    "Who does what",
    "Who is waited for",
    "Strategies along the trade-off",
    "Shadow prices",
)


@pytest.fixture(scope="module")
def search() -> tuple[optuna.Study, Policies]:
    policies = Policies(CLIENTS)
    study = make_study(120, policies, name="fleet <b>x</b>", limits={"round_seconds": 12.0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(["round_seconds", "accuracy_loss"])
    return study, policies


@contextmanager
def served(study, policies, folder, **options):
    with dashboard(study, policies, "runs/search", folder, port=0, every=0.1, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield address(server, study)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def page(search, tmp_path_factory) -> str:
    """The address of the study, when all its figures are made."""
    import json
    import urllib.request

    with served(*search, tmp_path_factory.mktemp("uploads")) as url:
        api = url.replace("/dashboard/", "/api/")
        for _ in range(300):
            told = json.load(urllib.request.urlopen(api))
            if len(told["plotly_graph_objects"]) == len(TITLES):
                break
            time.sleep(0.1)
        yield url


def drawn(browser) -> list[str]:
    """The titles of our figures that are on the page, in their order."""
    return browser.run(
        "return [...document.querySelectorAll('[id^=\"user-defined-plot:\"]')]"
        ".map(p => (p.querySelector('.gtitle') || {}).textContent || '')"
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_study_shows_our_figures_and_the_console_stays_quiet(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    browser.wait_for("Best Trials")
    titles = drawn(browser)
    assert len(titles) == len(TITLES)
    assert all(title.startswith(wanted) for title, wanted in zip(titles, TITLES, strict=True))
    text = browser.text()
    assert "round_seconds" in text
    assert "Objective 0" not in text
    assert browser.faults() == []
    frames = browser.run(
        "return [...document.querySelectorAll('[id^=\"user-defined-plot:\"]')].map(p =>"
        "[p.getBoundingClientRect(), p.querySelector('.main-svg').getBoundingClientRect()]"
        ".map(r => [r.width, r.height]))"
    )
    for frame, figure in frames:
        assert figure[0] <= frame[0] + 1
        assert figure[1] <= frame[1] + 1


def test_the_card_of_best_trials_lists_each_point_of_the_feasible_front_once(browser, page, search):
    browser.open(page)
    browser.wait_for("Best Trials")
    listed = re.findall(r"^Trial (\d+)$", browser.text(), re.MULTILINE)
    first = {tuple(t.values): t.number for t in reversed(search[0].best_trials)}
    assert sorted(map(int, listed)) == sorted(first.values())


def test_infeasible_trials_are_told_apart_in_the_dashboards_own_plots(browser, page, search):
    browser.open(page)
    browser.wait_for("Best Trials")
    broken = sum(t.constraints["round_seconds"] > 0 for t in search[0].trials)
    sizes = browser.run(
        "return [...document.querySelectorAll('.js-plotly-plot')].slice(0, 1)"
        ".flatMap(p => p.data.map(t => t.x.length))"
    )
    assert broken in sizes
    assert sum(sizes) == len(search[0].trials)


def test_the_note_shows_the_table_and_names_as_they_are(browser, page, search):
    browser.open(f"{page}/note")
    browser.wait_for("How to make it again")
    text = browser.text()
    assert "fleet <b>x</b>" in text
    assert "Of 120 trials" in text
    heads = browser.driver.find_elements(By.CSS_SELECTOR, "th")
    assert [h.text for h in heads][:3] == ["if you want", "trial", "round time"]
    assert browser.faults() == []


def test_a_trial_has_its_note_and_its_allocation_opens_as_a_table(browser, page, search):
    study = search[0]
    best = study.best_trials[0]
    browser.open(f"{page}/trials?numbers={best.number}")
    browser.wait_for("allocation.csv")
    text = browser.text()
    assert "on the front" in text
    assert f"--trial {best.number}" in text
    browser.click("//*[@data-testid='FullscreenIcon']/ancestor::button")
    browser.wait_for("waits_seconds")
    assert f"of {CLIENTS}" in browser.text()
    assert browser.faults() == []


def test_a_note_written_in_the_browser_is_kept(browser, search, tmp_path):
    study = make_study(8, search[1], name="edited")
    with served(study, search[1], tmp_path) as url:
        browser.open(f"{url}/note")
        browser.wait_for("How to make it again")
        browser.click("//*[@data-testid='EditIcon']/ancestor::button")
        area = browser.driver.find_element(By.CSS_SELECTOR, "textarea:not([aria-hidden])")
        area.clear()
        area.send_keys("my own words")
        browser.click("//button[contains(., 'Save')]")
        browser.wait_for("Success to save the note")
    kept = study._storage.get_study_system_attrs(study._study_id)
    assert kept["dashboard:note_str:0"] == "my own words"
