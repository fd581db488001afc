"""The report: complete, honest about its numbers, self-contained, and robust to odd input."""

import html
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedhq.allocator import FedHQError
from fedhq.fl_core.records.records import ClientRecord, RoundRecord
from fedhq.studies.report import write_report
from fedhq.studies.results import Comparison, FrontierView, RunResult, cells, summarise

ROUNDS, CLIENTS, SEEDS = 30, 20, 5
ARMS = ("fp32", "all-PTQ", "all-QAT", "random hybrid", "hardware-only", "fedhq")
SCENARIOS = ("independent", "correlated")
FACTOR = {"skip": 0.0, "fp32": 1.35, "ptq-w2a2": 1.0, "qat-w2a2": 1.4}
FINAL = {"fp32": 0.62, "all-PTQ": 0.70, "all-QAT": 0.88, "random hybrid": 0.83}


def strategy_of(arm, client, number, slowness, rng):
    if arm in ("fp32", "all-PTQ", "all-QAT"):
        return {"fp32": "fp32", "all-PTQ": "ptq-w2a2", "all-QAT": "qat-w2a2"}[arm]
    if arm == "random hybrid":
        return "qat-w2a2" if rng.random() < 0.6 else "ptq-w2a2"
    if arm == "fedhq" and slowness > 2.2 and (client + number) % 7 == 0:
        return "skip"
    return "qat-w2a2" if slowness < 1.45 + 0.03 * (number % 3) else "ptq-w2a2"


def synthetic_run(scenario, arm, seed, rounds=ROUNDS, clients=CLIENTS):
    rng = np.random.default_rng([seed, len(arm), len(scenario)])
    slowness = np.random.default_rng(seed).permutation(np.geomspace(0.6, 2.4, clients))
    final = FINAL.get(arm, 0.865) + rng.normal(0, 0.015) - 0.03 * (scenario == "correlated")
    round_records, client_records, clock = [], [], 0.0
    for number in range(1, rounds + 1):
        mine = []
        for client in range(clients):
            strategy = strategy_of(arm, client, number, slowness[client], rng)
            skips = strategy == "skip"
            failed = arm == "random hybrid" and (client, number) == (3, 5)
            status = "skipped" if skips else "failed" if failed else "ok"
            seconds = float(slowness[client] * FACTOR[strategy])
            loss = None if skips else 2.3 / number
            sent = 0 if skips else 120_000 if strategy == "fp32" else 15_000
            mine.append(
                ClientRecord(
                    round=number,
                    client=client,
                    strategy=strategy,
                    status=status,
                    reason=None,
                    num_examples=200,
                    seconds=seconds,
                    uplink_bytes=sent,
                    downlink_bytes=sent,
                    energy_joules=0,
                    train_loss=loss,
                    share=0,
                    staleness=0,
                )
            )
        slowest = max(mine, key=lambda c: c.seconds)
        clock += slowest.seconds
        swing = rng.normal(0, 0.05 * (1 - number / rounds) + 0.004)
        accuracy = float(np.clip(final * (1 - np.exp(-number / 5)) + swing, 0.05, 1))
        sent = sum(c.uplink_bytes for c in mine)
        round_records.append(
            RoundRecord(
                round=number, simulated_seconds=clock, round_seconds=slowest.seconds,
                waiting_seconds=0, deployed_accuracy=accuracy, float_accuracy=accuracy,
                client_accuracy=None, worst_accuracy=None, uplink_bytes=sent, downlink_bytes=sent,
                energy_joules=0, planned_loss=0.02, bottleneck=slowest.client, learning_rate=0.1,
                selected=20, used=20,
            )
        )  # fmt: skip
        client_records += mine
    return RunResult(scenario, arm, seed, tuple(round_records), tuple(client_records))


def synthetic_comparison(arms=ARMS, scenarios=SCENARIOS, seeds=SEEDS, **changes):
    results = tuple(
        synthetic_run(scenario, arm, seed, **changes)
        for scenario in scenarios
        for arm in arms
        for seed in range(seeds)
    )
    seconds = np.geomspace(2.4, 3.4, 14)
    loss = 0.3 * np.exp(-np.arange(14) / 2.5)
    frontiers = tuple(FrontierView(scenario, 0, seconds, loss, 6) for scenario in scenarios)
    return Comparison("demo", 0.8, scenarios, arms, results, frontiers)


def page_of(comparison, folder):
    path = folder / "report.html"
    write_report(path, comparison)
    return path.read_text("utf-8")


def plots_of(page):
    """The figures that the page's script draws: a list of alternatives for every place."""
    found = re.search(r'<script type="application/json" id="plots">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def tables_of(page):
    """Rows of cells of every table, as a reader sees them, without the badges."""
    tables = []
    for body in re.findall(r"<tbody>(.*?)</tbody>", page, re.S):
        body = re.sub(r"<span class=mark>.*?</span> ", "", body)
        rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
        found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
        tables.append([[html.unescape(re.sub("<.*?>", "", c)) for c in row] for row in found])
    return tables


def markup_of(page):
    """The page without what stands in its scripts."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.S)


def heat_maps_of(page):
    return [fig for place in plots_of(page) for fig in place if fig["data"][0]["type"] == "heatmap"]


def bar_charts_of(page):
    return [fig for place in plots_of(page) for fig in place if fig["data"][0]["type"] == "bar"]


@pytest.fixture(scope="module")
def comparison():
    return synthetic_comparison()


@pytest.fixture(scope="module")
def page(comparison, tmp_path_factory):
    return page_of(comparison, tmp_path_factory.mktemp("report"))


# --- Complete and self-contained ---


def test_the_page_loads_nothing(page):
    assert page.count("<script>") == 2  # plotly.js and the page's own
    assert not re.search(r"<script[^>]*\ssrc", page)
    markup = markup_of(page)
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:)?//""", markup)
    assert not re.search(r"@import|url\(", markup)
    assert "default-src 'none'" in markup


def test_every_scenario_and_arm_has_its_place(page):
    markup = markup_of(page)
    for k, scenario in enumerate(SCENARIOS):
        assert f'<a href="#scenario-{k}">{scenario}</a>' in markup
        assert f'<section id="scenario-{k}"><h2>{scenario}</h2>' in markup
    for arm in ARMS:
        assert len(re.findall(rf"<option [^>]*>{arm}</option>", markup)) == 2 * len(SCENARIOS)
    assert len(re.findall(r"<option [^>]* selected>fedhq</option>", markup)) == 2 * len(SCENARIOS)


def test_every_figure_says_in_words_what_it_shows_and_how_to_read_it(page):
    markup = markup_of(page)
    assert markup.count("<figure>") == markup.count("How to read.") == 4 * len(SCENARIOS)
    assert len(re.findall(r'role=img [^>]*aria-label="[^"]{20,}"', markup)) == 4 * len(SCENARIOS)
    assert all(figure["layout"]["meta"] for place in plots_of(page) for figure in place)


def test_the_tables_show_the_summary(page, comparison):
    rows = summarise(comparison)
    for scenario, table in zip(SCENARIOS, tables_of(page), strict=True):
        assert table == [list(cells(row)) for row in rows if row.scenario == scenario]
    assert markup_of(page).count("Means over 5 seeds (0, 1, 2, 3, 4)") == len(SCENARIOS)


def test_the_best_accuracy_and_the_fastest_arms_are_marked(page, comparison):
    rows = [row for row in summarise(comparison) if row.scenario == SCENARIOS[0]]
    accurate = cells(max(rows, key=lambda row: row.accuracy))[1]
    quick = cells(min(rows, key=lambda row: row.seconds_per_round))[2]
    table = re.search(r"<tbody>(.*?)</tbody>", page, re.S)[1]
    assert f"<span class=mark>best</span> {accurate}" in table
    assert f"<span class=mark>fastest</span> {quick}" in table
    assert table.count("class=mark") == 3


def test_an_arm_that_misses_the_target_once_is_not_the_fastest_to_it(tmp_path):
    both = synthetic_comparison(arms=("all-PTQ", "all-QAT"), scenarios=("s",), seeds=2)
    lucky = both.of("s", "all-PTQ")[0]
    first = replace(lucky.rounds[0], deployed_accuracy=0.99)
    lucky = replace(lucky, rounds=(first, *lucky.rounds[1:]))
    others = tuple(r for r in both.results if (r.arm, r.seed) != ("all-PTQ", 0))
    page = page_of(replace(both, results=(lucky, *others)), tmp_path)
    table = re.search(r"<tbody>(.*?)</tbody>", page, re.S)[1]
    assert "<td>2.4 (1 of 2 seeds)</td>" in table


# --- The figures show the records ---


def test_the_lines_are_means_over_the_seeds(page, comparison):
    lines = {t["name"]: t for t in plots_of(page)[0][0]["data"] if "name" in t}
    assert list(lines) == list(ARMS)
    runs = comparison.of(SCENARIOS[0], "fedhq")
    accuracy = [[r.deployed_accuracy for r in run.rounds] for run in runs]
    seconds = [[r.simulated_seconds for r in run.rounds] for run in runs]
    np.testing.assert_allclose(lines["fedhq"]["y"], np.mean(accuracy, axis=0))
    np.testing.assert_allclose(lines["fedhq"]["x"], np.mean(seconds, axis=0))


def test_the_heat_maps_show_what_the_clients_did(page, comparison):
    runs = [comparison.of(scenario, arm)[0] for scenario in SCENARIOS for arm in ARMS]
    for run, figure in zip(runs, heat_maps_of(page), strict=True):
        heat, *legend = figure["data"]
        names = [trace["name"] for trace in legend if trace["name"] != "lost or late"]
        assert names == ["skip", "fp32", "ptq-w2a2", "qat-w2a2"]
        shown = {
            (int(client), number): names[k]
            for client, row in zip(heat["y"], heat["z"], strict=True)
            for number, k in zip(heat["x"], row, strict=True)
        }
        assert shown == {(c.client, c.round): c.strategy for c in run.clients}


def test_the_fastest_device_is_the_top_row_in_every_arm(page, comparison):
    slowness = {c.client: c.seconds for c in comparison.of(SCENARIOS[0], "all-PTQ")[0].clients}
    order = [str(client) for client in sorted(slowness, key=lambda c: slowness[c])]
    assert all(fig["data"][0]["y"] == order for fig in heat_maps_of(page)[: len(ARMS)])


def test_a_failed_client_is_crossed_out(page):
    crosses = [t for t in heat_maps_of(page)[3]["data"] if t.get("name") == "lost or late"]
    assert [(t["x"], t["y"]) for t in crosses] == [([5], ["3"])]


def test_the_bars_show_the_last_round_slowest_first(page, comparison):
    run = comparison.of(SCENARIOS[0], "fedhq")[0]
    figure = bar_charts_of(page)[len(ARMS) - 1]
    bars, last = figure["data"][0], run.rounds[-1]
    seconds = {str(c.client): c.seconds for c in run.clients if c.round == last.round}
    assert dict(zip(bars["x"], bars["y"], strict=True)) == seconds
    assert bars["y"] == sorted(seconds.values(), reverse=True)
    assert figure["layout"]["shapes"][0]["y0"] == last.round_seconds
    notes = [note["text"] for note in figure["layout"]["annotations"]]
    assert f"everybody waits for client {last.bottleneck}" in notes


def test_a_strategy_has_one_colour_everywhere(page):
    heat, bars = heat_maps_of(page)[5], bar_charts_of(page)[5]
    legend = {t["name"]: t["marker"]["color"] for t in heat["data"][1:]}
    assert legend == {t["name"]: t["marker"]["color"] for t in bars["data"][1:]}
    assert len(set(legend.values())) == len(legend)
    assert set(bars["data"][0]["marker"]["color"]) <= set(legend.values())
    lines = {t["name"]: t["line"]["color"] for t in plots_of(page)[0][0]["data"] if "name" in t}
    assert lines["all-QAT"] == legend["qat-w2a2"]
    assert len(set(lines.values())) == len(lines)


def test_the_chosen_point_lies_on_the_frontier(page, comparison):
    view = comparison.frontiers[0]
    line, chosen = plots_of(page)[1][0]["data"]
    assert line["x"] == list(view.round_seconds)
    assert (chosen["x"], chosen["y"]) == ([line["x"][view.chosen]], [line["y"][view.chosen]])


# --- Odd input ---


def test_names_are_escaped(tmp_path):
    arm, scenario = "a<b>&\"'</script>", "<i>s</i> & 'co'"
    odd = synthetic_comparison(arms=("fp32",), scenarios=("x",), seeds=1)
    odd = Comparison(
        "<u>\"name\"</u>; rm -rf '", 0.8, (scenario,), (arm,),
        tuple(replace(r, arm=arm, scenario=scenario) for r in odd.results), (),
    )  # fmt: skip
    page = page_of(odd, tmp_path)
    markup = markup_of(page)
    for tag in ("<b>&", "<i>", "<u>"):
        assert tag not in markup
    for name in (arm, scenario, odd.name):
        assert html.escape(name) in markup
    assert tables_of(page)[0][0][0] == arm
    assert plots_of(page)[0][0]["data"][0]["name"] == "a&lt;b&gt;&amp;\"'&lt;/script&gt;"


def test_one_seed_and_one_arm_without_frontier_make_a_page(tmp_path):
    one = synthetic_comparison(arms=("fedhq",), scenarios=("run",), seeds=1, rounds=1)
    page = page_of(replace(one, frontiers=(), command="fedhq run 'a <b>.toml'"), tmp_path)
    markup = markup_of(page)
    assert markup.count("<figure>") == 3
    assert "One seed (0)" in markup
    assert "class=mark" not in markup
    assert "<nav" not in markup
    assert html.escape("fedhq run 'a <b>.toml'") in markup


def test_rounds_that_were_not_evaluated_are_left_out(tmp_path):
    one = synthetic_comparison(arms=("fedhq",), scenarios=("s",), seeds=1, rounds=6)
    run = one.results[0]
    rounds = [r if r.round % 3 == 0 else replace(r, deployed_accuracy=None) for r in run.rounds]
    page = page_of(replace(one, results=(replace(run, rounds=tuple(rounds)),)), tmp_path)
    line = plots_of(page)[0][0]["data"][0]
    assert [data[0] for data in line["customdata"]] == [3, 6]
    assert line["y"] == [r.deployed_accuracy for r in rounds if r.round % 3 == 0]


def test_a_client_outside_the_cohort_is_blank(tmp_path):
    one = synthetic_comparison(arms=("fedhq",), scenarios=("s",), seeds=1, rounds=4, clients=6)
    run = one.results[0]
    clients = tuple(c for c in run.clients if (c.client + c.round) % 2)
    page = page_of(replace(one, results=(replace(run, clients=clients),)), tmp_path)
    heat = heat_maps_of(page)[0]["data"][0]
    for client, row in zip(heat["y"], heat["z"], strict=True):
        assert [z is None for z in row] == [(int(client) + n) % 2 == 0 for n in heat["x"]]
    assert set(bar_charts_of(page)[0]["data"][0]["x"]) == {"1", "3", "5"}


def test_arms_and_scenarios_without_runs_are_named_or_left_out(tmp_path):
    some = synthetic_comparison(arms=("fp32", "fedhq"), seeds=2)
    results = [r for r in some.results if r.scenario == "independent"]
    results = [r for r in results if r.arm == "fp32" or r.seed == 1]
    page = page_of(replace(some, results=tuple(results), arms=(*some.arms, "later")), tmp_path)
    markup = markup_of(page)
    assert "No run is finished yet." in markup
    assert "seeds that differ by arm (fp32: 0, 1; fedhq: 1)" in markup
    assert "Each arm's lowest seed." in markup
    assert "later" not in markup


def test_runs_without_clients_or_bottleneck_make_a_page(tmp_path):
    two = synthetic_comparison(arms=("fp32", "fedhq"), scenarios=("s",), seeds=1, rounds=2)
    bare, run = replace(two.results[0], clients=()), two.results[1]
    rounds = tuple(replace(r, bottleneck=None) for r in run.rounds)
    page = page_of(replace(two, results=(bare, replace(run, rounds=rounds))), tmp_path)
    assert len(bar_charts_of(page)) == 1
    assert "everybody waits for client" not in page
    page = page_of(replace(two, results=(bare,)), tmp_path)
    assert bar_charts_of(page) == []


def test_many_strategies_and_arms_keep_their_own_colours(tmp_path):
    names = [f"{m}-w{b}a{b}" for m in ("ptq", "qat") for b in (2, 4, 8)] + ["fp32-u8", "fp32"]
    run = synthetic_run("s", "fedhq", 0, rounds=2, clients=len(names))
    clients = tuple(replace(c, strategy=names[c.client]) for c in run.clients)
    arms = tuple(f"arm {k}" for k in range(7))
    results = tuple(replace(run, arm=arm, clients=clients) for arm in arms)
    page = page_of(Comparison("many", 0.8, ("s",), arms, results, ()), tmp_path)
    legend = {t["name"]: t["marker"]["color"] for t in heat_maps_of(page)[0]["data"][1:]}
    assert sorted(legend) == sorted(names)
    assert len(set(legend.values())) == len(names)
    assert len({t["line"]["color"] for t in plots_of(page)[0][0]["data"]}) == len(arms)


def test_no_finished_run_is_an_error(tmp_path, comparison):
    with pytest.raises(ValueError, match=r"must hold a run .* none of 0 is"):
        write_report(tmp_path / "report.html", replace(comparison, results=()))
    assert list(tmp_path.iterdir()) == []


def test_without_plotly_the_error_names_the_mend(tmp_path, comparison, monkeypatch):
    monkeypatch.delitem(sys.modules, "fedhq.studies.figures", raising=False)
    monkeypatch.delattr(sys.modules["fedhq.studies"], "figures", raising=False)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(FedHQError, match=re.escape("pip install 'fedhq[report]'")):
        write_report(tmp_path / "report.html", comparison)


# --- Writing ---


def test_a_failure_leaves_the_old_report(tmp_path, monkeypatch):
    one = synthetic_comparison(arms=("fedhq",), scenarios=("s",), seeds=1, rounds=2)
    path = tmp_path / "report.html"
    path.write_text("old", "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_report(path, one)
    assert [p.read_text("utf-8") for p in tmp_path.iterdir()] == ["old"]
    write_report(path, one)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text("utf-8").startswith("<!doctype html>")


def test_the_same_comparison_gives_the_same_bytes(tmp_path):
    one = synthetic_comparison(arms=("fedhq",), scenarios=("s",), seeds=1, rounds=2)
    assert page_of(one, tmp_path / "a") == page_of(one, tmp_path / "b")
