"""Who signs for a deployment: its own authority alone, and a folder tells where that is damaged."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from fedhq.studies.entry import main
from fedhq.studies.flower.certificates import make_authority
from fedhq.studies.flower.check import check_folder
from fedhq.studies.flower.folder import prepare
from fedhq.studies.flower.layout import Layout

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "hq", Layout(("localhost",), ("kitchen",)), NOW, 90, 3650)
    return tmp_path / "hq"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def another() -> bytes:
    return make_authority("other", NOW, 10).key


def encrypted() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    form = Encoding.PEM, PrivateFormat.PKCS8
    return key.private_bytes(*form, BestAvailableEncryption(b"word"))


@pytest.mark.parametrize("command", [["renew"], ["add", "--node", "attic"]])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda ca: (ca / "ca.key").unlink(), r"ca\.key` must be there.*Bring it"),
        (lambda ca: (ca / "ca.pem").unlink(), r"ca\.pem` must be there"),
        (lambda ca: (ca / "ca.key").write_text("none"), r"ca\.key must be a private key.*Restore"),
        (lambda ca: (ca / "ca.pem").write_text("none"), r"ca\.pem must be a certificate.*Restore"),
        (lambda ca: (ca / "ca.key").write_bytes(encrypted()), r"ca\.key must be.*without password"),
        (lambda ca: (ca / "ca.key").write_bytes(another()), r"ca\.key` must be the key of ca\.pem"),
    ],
)
def test_nothing_is_signed_by_what_is_not_the_authority(
    folder: Path, capsys, command: list[str], spoil, reason: str
) -> None:
    spoil(folder / "ca")
    before = contents(folder)
    assert main(["flower", *command, str(folder)]) == 2
    assert re.search(reason, capsys.readouterr().err)
    assert contents(folder) == before


@pytest.mark.parametrize("make", [another, encrypted])
def test_check_finds_a_key_that_is_not_the_authoritys(folder: Path, make) -> None:
    (folder / "ca/ca.key").write_bytes(make())
    wrong = {f.place: f.says for f in check_folder(folder, NOW, 30) if f.mend}
    assert wrong == {"ca/ca.pem": "is not the certificate of ca.key"}
