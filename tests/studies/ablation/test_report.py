"""The page of an ablation: self-contained, true to its cells, fit for odd input, and drawn."""

import html
import json
import re
import sys
from dataclasses import replace

import pytest
from ablation_cells import cell, failed, measured

from fedhq.allocator import Dual, Exact, FedHQError, HardwareOnly, Milp, Sweep
from fedhq.studies.ablation.columns import COLUMNS
from fedhq.studies.ablation.end_to_end import EndToEnd
from fedhq.studies.ablation.report import write_report
from fedhq.studies.ablation.summary import summarise
from fedhq.studies.provenance import Provenance

SOLVERS = {
    "sweep": Sweep(), "dual": Dual(), "exact": Exact(), "highs": Milp(),
    "hardware-only": HardwareOnly("qat-w2a2", "ptq-w2a2"),
}  # fmt: skip
FAMILIES = ("random", "ties")
HERE = Provenance.here(["highspy"])
COMMAND = "fedhq study ablation 'a <b>.toml'"


def federation(solver, seed, accuracy):
    curve = tuple((k, 0.1 * k, accuracy * k / 3) for k in (1, 2, 3))
    origin = (solver, f"S({solver})", "lib 7", seed, "run", "here")
    return EndToEnd(*origin, "", 3, 0.1, accuracy, 0.1, 0.01, solver, curve)


FEDERATIONS = (
    federation("exact", 0, 0.8), federation("exact", 1, 0.9), federation("dual", 0, 0.7),
    EndToEnd("sweep", "Sweep()", "lib 7", 0, "run", "here", "no <coverage> for it"),
)  # fmt: skip


def page_of(cells, folder, federations=FEDERATIONS):
    path = folder / "report.html"
    write_report(path, cells, federations, {"here": HERE}, COMMAND)
    return path.read_text("utf-8")


def markup_of(page):
    return re.sub(r"<script.*?</script>", "", page, flags=re.S)


def table_of(page, name):
    found = re.search(rf'aria-label="{name}"><table>.*?<tbody>(.*?)</tbody>', page, re.S)
    rows = re.findall(r"<tr>(.*?)</tr>", found[1], re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
    return [[html.unescape(re.sub("<.*?>", "", c)) for c in row] for row in cells]


def plots_of(page):
    found = re.search(r'<script type="application/json" id="plots">(.*?)</script>', page, re.S)
    return json.loads(found[1])


@pytest.fixture(scope="module")
def cells():
    return measured(SOLVERS, FAMILIES, (4, 8), (0, 1))


@pytest.fixture(scope="module")
def page(cells, tmp_path_factory):
    return page_of(cells, tmp_path_factory.mktemp("report"))


def test_the_page_loads_nothing(page):
    assert not re.search(r"<script[^>]*\ssrc", page)
    markup = markup_of(page)
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:)?//""", markup)
    assert not re.search(r"@import|url\(", markup)
    assert "default-src 'none'" in markup


def test_the_table_shows_the_summary_the_best_first(page, cells):
    rows = summarise(cells).of(1.0)
    ours = {"sweep", "dual", "exact"}
    assert table_of(page, "Results") == [
        [row.solver + (" fedhq" if row.solver in ours else ""), *(c.text(row) for c in COLUMNS)]
        for row in rows
    ]


def test_every_figure_has_its_alternatives_and_a_caption(page):
    markup, plots = markup_of(page), plots_of(page)
    assert markup.count("<figure>") == markup.count("How to read.") == len(plots) == 7
    lists = re.findall(r"<select.*?</select>", markup, re.S)
    counts = [select.count("<option") for select in lists]
    assert counts == [5, 5, 3, 6, 4]
    assert [len(place) for place in plots if len(place) > 1] == counts
    assert all(figure["layout"]["meta"] for place in plots for figure in place)


def test_the_federations_have_a_table_and_say_what_failed(page):
    rows = table_of(page, "Federations")
    assert rows[0][:3] == ["exact", "A", "0.850 (0.800 to 0.900)"]
    assert [row[1] for row in rows[1:]] == ["failed", "failed"]  # dual lacks a seed
    assert "Not compared, because a federation failed: dual, sweep." in markup_of(page)
    assert "Failed: sweep: no &lt;coverage&gt; for it" in markup_of(page)


def test_the_page_says_where_its_figures_come_from(page, cells):
    markup = markup_of(page)
    assert html.escape(COMMAND) in markup
    runs = table_of(page, "Runs")
    assert runs[0][0] == "here"
    assert "highspy" in runs[0][4]
    settings = {row[0]: row[2] for row in table_of(page, "Solvers")}
    assert settings == {c.solver: c.settings for c in cells}
    deciders = table_of(page, "Solvers in the federations")
    assert deciders == [
        ["exact", "lib 7", "S(exact)", "here"], ["dual", "lib 7", "S(dual)", "here"],
        ["sweep", "lib 7", "Sweep()", "here"],
    ]  # fmt: skip


def test_without_federations_the_section_is_not_there(page, tmp_path):
    assert 'id="federations"' not in markup_of(page_of([cell("a")], tmp_path, ()))
    assert 'id="federations"' in markup_of(page)


def test_wrong_claims_are_listed_with_what_refutes_them(tmp_path):
    cells = [
        cell("honest"), cell("liar", objective=5.0, bound=5.0, message=""),
        failed("denier", outcome="infeasible"), failed("odd", outcome="wrong", message="<odd>"),
    ]  # fmt: skip
    page = page_of(cells, tmp_path)
    assert table_of(page, "Wrong claims") == [
        ["liar", "ties, 2, 0", "no objective is below 5; another solver's is 4 (25 % less)"],
        ["denier", "ties, 2, 0",
         "no allocation exists; another solver's keeps every limit, objective 4"],
        ["odd", "ties, 2, 0", "<odd>"],
    ]  # fmt: skip
    assert "Caught at wrong claims: denier (1 of 1), liar (1 of 1) and odd (1 of 1)." in page


def test_problems_that_not_all_were_given_are_told(cells, tmp_path):
    some = [c for c in cells if (c.solver, c.seed) != ("highs", 1)]
    assert "Left out: 4 problems that were not given to all solvers yet." in page_of(some, tmp_path)


def test_every_limit_has_its_section(tmp_path):
    markup = markup_of(page_of([cell("a"), cell("a", time_limit_seconds=0.5)], tmp_path))
    for place, says in (("limit-0", "Within 500 ms"), ("limit-1", "Within 1 s")):
        assert f'<section id="{place}"><h2>{says}</h2>' in markup
        assert f'<a href="#{place}">' in markup


@pytest.mark.parametrize(
    "few",
    [
        [cell("a")],
        [failed("a")],
        [failed("a", outcome="refused", seconds={})],
        [failed("a", outcome="timeout", seconds={})],
        [failed("a", outcome="crashed", seconds={}), failed("b", outcome="missing")],
        [failed("a", outcome="infeasible")],
    ],
    ids=lambda few: few[0].outcome,
)
def test_little_makes_a_page_too(few, tmp_path):
    assert "<h2>Within 1 s</h2>" in page_of(few, tmp_path, ())


def test_names_are_escaped(tmp_path):
    odd = "a<b>&\"'</script>"
    page = page_of([cell(odd, settings="<i>S</i>", solver_version="<u>1</u>")], tmp_path)
    markup = markup_of(page)
    for tag in ("<b>&", "<i>", "<u>"):
        assert tag not in markup
    assert html.escape(odd) in markup


def test_solvers_that_are_missing_are_named(tmp_path):
    page = page_of([cell("a"), failed("cp-<sat>", outcome="missing")], tmp_path)
    assert "Not installed, so not measured: cp-&lt;sat&gt;." in page


def test_nothing_measured_leaves_the_old_page(tmp_path):
    (tmp_path / "report.html").write_text("old", "utf-8")
    with pytest.raises(ValueError, match="must hold a measurement"):
        page_of([], tmp_path)
    assert [p.read_text("utf-8") for p in tmp_path.iterdir()] == ["old"]


def test_without_plotly_the_error_names_the_mend(cells, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(FedHQError, match=re.escape("pip install 'fedhq[report]'")):
        page_of(cells, tmp_path)


def test_the_same_cells_give_the_same_bytes(page, cells, tmp_path):
    assert page_of(cells, tmp_path) == page


DRAW_ALL = "dispatchEvent(new Event('beforeprint'));"  # else only what is scrolled to
DRAWN = f"""{DRAW_ALL}return [...document.querySelectorAll(".plot")].map(
    (plot) => plot.querySelectorAll(".trace, .heatmaplayer image, .bars path").length)"""


def wait_for_all_figures(browser):
    browser.wait_until(
        lambda: browser.run(DRAWN), lambda marks: marks and all(marks), "marks in every figure"
    )


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_draws_every_figure_without_a_fault(page, browser, tmp_path, width, dark):
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    browser.open(path.as_uri(), width=width, dark=dark)
    browser.wait_for("Where these figures come from")
    wait_for_all_figures(browser)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.faults() == []
    loaded = browser.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert not [name for name in loaded if not name.startswith(("data:", "blob:"))]


@pytest.mark.slow
def test_lists_that_belong_together_move_together(page, browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    browser.open(path.as_uri())
    browser.wait_for("Performance profile")
    chosen = browser.run(
        f"{DRAW_ALL}"
        """
        const [first, second] = document.querySelectorAll('select[data-scenario="limit-0-solved"]');
        first.value = "4";
        first.dispatchEvent(new Event("change"));
        const said = [...document.querySelectorAll(".plot")].map((p) => p.ariaLabel);
        return [second.value, said[0], said[1]];
    """
    )
    assert chosen[0] == "4"
    assert all("family ties" in says for says in chosen[1:])


@pytest.mark.slow
def test_a_page_of_five_thousand_cells_is_no_larger_than_one_of_forty(cells, browser, tmp_path):
    """Neither its tables nor its figures grow with the cells, so that it opens as fast."""
    many = [replace(c, problem=f"{c.problem}, {k}") for c in cells for k in range(126)]
    assert len(many) > 5000
    page = page_of(many, tmp_path)
    assert len(page) < 1.2 * len(page_of(cells, tmp_path / "few"))
    (tmp_path / "report.html").write_text(page, "utf-8")
    browser.open((tmp_path / "report.html").as_uri())
    browser.wait_for("Where these figures come from")
    wait_for_all_figures(browser)
