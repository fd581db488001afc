"""Every block of the documentation runs; the site builds without a warning and needs no network.

A page's blocks run in their order, in one namespace and one folder:

- `python` is run, or compared if it is a session;
- `sh` holds `fedhq` commands, which must end with 0; a `text` block right after is their output;
- `toml` is read as what it claims to be; a first line `# NAME.toml` writes it to that file;
- `console` is all that no test can run; the page says why.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from browser import open_browser

from fedhq.fl_core import Federation
from fedhq.studies.config import parse_compare, parse_run
from fedhq.studies.entry import main
from fedhq.studies.search.config.settings import parse_search

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
NAMES = ("allocator", "models", "fl_core", "fl_core.callbacks", "fl_core.flower", "studies")
PACKAGES = [f"fedhq.{name}" for name in NAMES]
DATA = {"text", "csv", "json", "yaml", "dockerfile"}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block that is no directive: language, text, and the line it starts at."""

    language: str
    text: str
    line: int
    follows: bool  # whether nothing but blank lines lies between it and the block before


def blocks_of(page: Path) -> list[Block]:
    text, found, end = page.read_text(encoding="utf-8"), [], -1
    for match in BLOCK.finditer(text):
        follows = end >= 0 and not text[end : match.start()].strip()
        line = text.count("\n", 0, match.start()) + 1
        if not match[1].startswith("{"):
            found.append(Block(match[1], match[2], line, follows))
        end = match.end()
    return found


WITH_CODE = [p for p in PAGES if {b.language for b in blocks_of(p)} & {"python", "sh", "toml"}]


def run_session(block: Block, name: str, namespace: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, namespace, name, name, block.line)
    said = io.StringIO()
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.write, clear_globs=False)
    assert not said.getvalue(), said.getvalue()
    namespace.update(test.globs)


def run_code(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    text = "\n" * block.line + block.text  # so that an error names the page's line
    exec(compile(text, str(page), "exec", dont_inherit=True), namespace)


def run_commands(text: str) -> str:
    """What some commands print; each must succeed."""
    said = io.StringIO()
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "fedhq", f"{line!r}: `sh` is for fedhq; `console` for the rest"
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                status = main(words[1:])
            assert status == 0, f"{line}: {said.getvalue()}"
    return said.getvalue()


def read_table(text: str) -> None:
    """Reads a configuration as the command that it is for would, and writes it if it has a name."""
    table = tomllib.loads(text)
    if "search" in table:
        parse_search(table)
    elif "arms" in table:
        parse_compare(table)
    else:
        Federation.build(parse_run(table).federation)
    if named := re.match(r"# (\S+\.toml)\n", text):
        Path(named[1]).write_text(text, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda p: str(p.relative_to(DOCS)))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    namespace: dict[str, Any] = {"__name__": "a_page"}
    output = ""
    for block in blocks_of(page):
        name = f"{page.name}:{block.line}"
        if block.language == "python" and block.text.startswith(">>>"):
            run_session(block, name, namespace)
        elif block.language == "python":
            run_code(block, page, namespace)
        elif block.language == "sh":
            output = run_commands(block.text)
        elif block.language == "toml":
            read_table(block.text)
        elif block.language == "text" and block.follows and output:
            same = doctest.OutputChecker().check_output(block.text, output, FLAGS)
            assert same, f"{name}: the commands print\n{output}"
            output = ""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_a_page_has_no_block_that_only_looks_tested(page: Path) -> None:
    languages = {block.language for block in blocks_of(page)}
    assert languages <= {"python", "sh", "toml", "console"} | DATA
    if "console" in languages:
        assert "Not run by the tests" in page.read_text(encoding="utf-8"), "say why"


def test_every_record_and_text_of_the_repository_is_on_the_site() -> None:
    included = {
        (page.parent / name).resolve()
        for page in PAGES
        for name in re.findall(r"^```\{include\} (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    }
    texts = [*(ROOT / "studies").glob("*.md"), *(ROOT / "fl_core").glob("*.md")]
    assert {*texts, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"} <= included


def build(out: Path) -> None:
    """Builds the site as `make docs` does: a warning is an error."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, str(DOCS), str(out)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def missing_names(site: Path) -> list[str]:
    """Public names that the reference does not hold, under whatever package they are documented."""
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    documented = {name for names in inventory.data.values() for name in names}
    missing = []
    for package in map(import_module, PACKAGES):
        for name in getattr(package, "__all__", ()):
            places = [p for p in PACKAGES if f"{p}.{name}" in documented]
            things = [getattr(import_module(p), name, None) for p in places]
            if not any(thing is getattr(package, name) for thing in things):
                missing.append(f"{package.__name__}.{name}")
    return missing


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Pages and style sheets that would load something from the network."""
    tags = re.compile(
        r'<(?:script|img|iframe|link rel="(?:stylesheet|preload)")[^>]*"(?:https?:)?//'
    )
    rules = re.compile(r"(?:url\(|@import)\W*(?:https?:)?//")
    pages = [p for p in site.rglob("*.html") if tags.search(p.read_text("utf-8"))]
    sheets = [p for p in site.rglob("*.css") if rules.search(p.read_text("utf-8"))]
    return [str(p) for p in (*pages, *sheets)]


@pytest.mark.slow
@pytest.mark.long
def test_the_site_builds_is_complete_needs_no_network_and_fits_a_phone(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="needs fedhq[docs]")
    build(tmp_path)  # one test, so that it is built once, however many processes test
    assert not missing_names(tmp_path), "give each a place in docs/reference"
    assert not loaded_from_elsewhere(tmp_path)
    formulas = (tmp_path / "mathematics.html").read_text("utf-8").partition("<article")[2]
    assert formulas.count("<math ") > 20
    assert "<script" not in formulas.partition("</article>")[0]
    with open_browser() as browser:
        for name in ("index", "mathematics", "words", "records/benchmarks", "reference/allocator"):
            browser.open((tmp_path / f"{name}.html").as_uri(), width=390)
            assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), name
            assert not browser.faults(), name
