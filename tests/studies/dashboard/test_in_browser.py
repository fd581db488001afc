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
        for _ in range(600):
            told = json.load(urllib.request.urlopen(api))
            if len(told["plotly_graph_objects"]) == len(TITLES):
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"of {len(TITLES)} figures only {len(told['plotly_graph_objects'])} came")
        yield url


def titles_drawn(browser) -> list[str]:
    """The titles of our figures that are on the page, in their order."""
    return browser.run(
        "return [...document.querySelectorAll('[id^=\"user-defined-plot:\"]')]"
        ".map(p => (p.querySelector('.gtitle') || {}).textContent || '')"
    )


def are_ours(titles: list[str]) -> bool:
    return len(titles) == len(TITLES) and all(map(str.startswith, titles, TITLES))


def fit(frames: list) -> bool:
    """Whether all figures are there and none is larger than its frame."""
    return len(frames) == len(TITLES) and all(
        drawn <= room + 1
        for frame, figure in frames
        for room, drawn in zip(frame, figure, strict=True)
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_study_shows_our_figures_and_the_console_stays_quiet(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    browser.wait_until(lambda: titles_drawn(browser), are_ours, f"titles {TITLES}")
    browser.wait_for("Best Trials")
    browser.wait_for("round_seconds")
    assert "Objective 0" not in browser.text()
    rectangles = (
        "return [...document.querySelectorAll('[id^=\"user-defined-plot:\"]')].map(p =>"
        "[p.getBoundingClientRect(), p.querySelector('.main-svg').getBoundingClientRect()]"
        ".map(r => [r.width, r.height]))"
    )
    browser.wait_until(lambda: browser.run(rectangles), fit, "each figure within its frame")
    assert browser.faults() == []


def test_the_card_of_best_trials_lists_each_point_of_the_feasible_front_once(browser, page, search):
    first = {tuple(t.values): t.number for t in reversed(search[0].best_trials)}
    wanted = sorted(first.values())
    browser.open(page)
    browser.wait_for("Best Trials")  # before it has a trial in it

    def listed() -> list[int]:
        return sorted(map(int, re.findall(r"^Trial (\d+)$", browser.text(), re.MULTILINE)))

    browser.wait_until(listed, lambda numbers: numbers == wanted, f"trials {wanted}, each once")


def test_infeasible_trials_are_told_apart_in_the_dashboards_own_plots(browser, page, search):
    browser.open(page)
    broken = sum(t.constraints["round_seconds"] > 0 for t in search[0].trials)
    everything = len(search[0].trials)
    points = (
        "return [...document.querySelectorAll('.js-plotly-plot')].slice(0, 1)"
        ".flatMap(p => p.data.map(t => t.x.length))"
    )
    browser.wait_until(
        lambda: browser.run(points),
        lambda sizes: broken in sizes and sum(sizes) == everything,
        f"{everything} trials, {broken} of them apart",
    )


def test_the_note_shows_the_table_and_names_as_they_are(browser, page, search):
    browser.open(f"{page}/note")
    browser.wait_for("How to make it again")
    browser.wait_for("fleet <b>x</b>")
    browser.wait_for("Of 120 trials")
    heads = "return [...document.querySelectorAll('th')].slice(0, 3).map(h => h.innerText)"
    wanted = ["if you want", "trial", "round time"]
    browser.wait_until(lambda: browser.run(heads), lambda seen: seen == wanted, str(wanted))
    assert browser.faults() == []


def test_a_trial_has_its_note_and_its_allocation_opens_as_a_table(browser, page, search):
    study = search[0]
    best = study.best_trials[0]
    browser.open(f"{page}/trials?numbers={best.number}")
    browser.wait_for("allocation.csv")
    browser.wait_for("on the front")
    browser.wait_for(f"--trial {best.number}")
    browser.click("//*[@data-testid='FullscreenIcon']/ancestor::button")
    browser.wait_for("waits_seconds")
    browser.wait_for(f"of {CLIENTS}")
    assert browser.faults() == []


def test_a_note_written_in_the_browser_is_kept(browser, search, tmp_path):
    study = make_study(8, search[1], name="edited")
    with served(study, search[1], tmp_path) as url:
        browser.open(f"{url}/note")
        browser.wait_for("How to make it again")
        browser.click("//*[@data-testid='EditIcon']/ancestor::button")
        areas = browser.wait_until(
            lambda: browser.driver.find_elements(By.CSS_SELECTOR, "textarea:not([aria-hidden])"),
            bool,
            "an area to write in",
        )
        area = areas[0]
        area.clear()
        area.send_keys("my own words")
        browser.click("//button[contains(., 'Save')]")
        browser.wait_for("Success to save the note")
    kept = study._storage.get_study_system_attrs(study._study_id)
    assert kept["dashboard:note_str:0"] == "my own words"
