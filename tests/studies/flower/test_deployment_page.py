"""The page from one machine to many: its commands, container files and paths fit together."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from fedhq.studies.entry import main

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "flower-deployment.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch) -> Path:
    """What the page's own commands make."""
    monkeypatch.chdir(tmp_path)
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            name, *arguments = shlex.split(line)
            assert name == "fedhq"
            assert main(arguments) == 0
    return tmp_path


def test_services_of_containers_start_what_was_prepared(prepared: Path) -> None:
    (text,) = blocks("yaml")
    services = yaml.safe_load(text)["services"]
    folder = prepared / "hq-containers"
    nodes = {path.name for path in (folder / "nodes").iterdir()}
    assert services.keys() == {"superlink", *nodes}
    for name, service in services.items():
        ((host, inside),) = (volume.split(":") for volume in service["volumes"])
        script, *options = service["command"].split()
        assert (prepared / host / Path(script).relative_to(inside)).is_file()
        assert options == ([] if name == "superlink" else ["--superlink", "superlink:8000"])
    assert services["superlink"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "--host 0.0.0.0 --port 8000" in (folder / "superlink/start.sh").read_text("utf-8")


def test_the_image_is_made_of_instructions_and_does_not_run_as_root() -> None:
    (text,) = blocks("dockerfile")
    instructions = [line.split(maxsplit=1)[0] for line in text.splitlines()]
    assert instructions[0] == "FROM"
    assert set(instructions) <= {"FROM", "RUN", "USER"}
    assert text.splitlines()[-1].startswith("USER ")


def test_scripts_that_the_page_names_are_there(prepared: Path) -> None:
    named = re.findall(r"\btry/[a-z/]+\.sh", PAGE)
    assert len(set(named)) == 4
    assert all((prepared / path).is_file() for path in named)
