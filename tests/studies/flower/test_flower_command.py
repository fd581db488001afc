"""`fedhq flower`: what it writes works as TLS, stays secret, is never overwritten, and ends."""

import hashlib
import json
import socket
import ssl
import stat
import subprocess
import sys
import threading
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from fedhq.studies.entry import main
from fedhq.studies.flower.certificates import expiry, hosts_of
from fedhq.studies.flower.check import check_folder
from fedhq.studies.flower.folder import prepare
from fedhq.studies.flower.layout import Layout

NOW = datetime.now(UTC)
LAYOUT = Layout(("localhost", "hq.example.org"), ("kitchen", "garage"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "hq", LAYOUT, NOW, 90, 3650)
    return tmp_path / "hq"


def contents(folder: Path) -> dict[Path, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def handshake(folder: Path, host: str) -> None:
    """Speaks TLS with a server of the folder's certificate as Flower's processes do."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "superlink/server.pem", folder / "superlink/server.key")
    client = ssl.create_default_context(cafile=folder / "nodes/garage/ca.pem")
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:  # the client has hung up
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=host).close()
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("host", ["localhost", "hq.example.org", "127.0.0.1"])
def test_a_node_trusts_the_superlink_by_each_of_its_names(folder: Path, host: str) -> None:
    handshake(folder, host)


def test_a_node_trusts_nobody_else(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(folder, "other.example.org")
    prepare(tmp_path / "fake", LAYOUT, NOW, 90, 3650)
    for file in ("server.pem", "server.key"):
        (folder / "superlink" / file).write_bytes((tmp_path / "fake/superlink" / file).read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError, match=r"signature|unable to get local issuer"):
        handshake(folder, "localhost")


def test_an_expired_certificate_is_refused_told_and_renewed(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "hq"
    prepare(folder, LAYOUT, NOW - timedelta(days=100), 90, 3650)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(folder, "localhost")
    assert main(["flower", "check", str(folder)]) == 1
    ended = f"expired on {NOW - timedelta(days=10):%Y-%m-%d}"
    told = [line for line in capsys.readouterr().out.splitlines() if ended in line]
    assert len(told) == 3  # the SuperLink's, two runtimes'
    assert all("fedhq flower renew" in line for line in told)
    key = (folder / "superlink/server.key").read_bytes()
    assert main(["flower", "renew", str(folder), "--days", "40"]) == 0
    handshake(folder, "localhost")
    assert (folder / "superlink/server.key").read_bytes() == key
    assert main(["flower", "check", str(folder)]) == 0
    assert main(["flower", "check", str(folder), "--soon", "50"]) == 1
    assert f"**{NOW + timedelta(days=40):%Y-%m-%d}**" in (folder / "README.md").read_text("utf-8")


def test_what_the_authority_cannot_outlast_is_not_renewed(folder: Path, capsys) -> None:
    before = contents(folder)
    assert main(["flower", "renew", str(folder), "--days", "4000"]) == 2
    assert "days that the authority is still valid" in capsys.readouterr().err
    assert contents(folder) == before


def test_keys_are_for_their_owner_only_and_every_node_has_its_own(folder: Path) -> None:
    keys = sorted(folder.rglob("*.key"))
    assert len(keys) == 2 + 2 * 2
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not [key for key in keys if b"PRIVATE KEY" not in key.read_bytes()]
    publics = set()
    for node in LAYOUT.nodes:
        private = load_ssh_private_key((folder / f"nodes/{node}/node.key").read_bytes(), None)
        told = (folder / f"operator/nodes/{node}.pub").read_bytes()
        public = load_ssh_public_key(told)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        assert private.public_key() == public
        publics.add(told)
    assert len(publics) == 2


def test_no_private_key_lies_where_it_is_not_used(folder: Path) -> None:
    held = {
        str(path.relative_to(folder))
        for path in contents(folder)
        if b"PRIVATE KEY" in path.read_bytes()
    }
    assert held == {
        "ca/ca.key",
        "superlink/server.key",
        *(f"nodes/{node}/{key}.key" for node in LAYOUT.nodes for key in ("node", "runtime")),
    }


def test_scripts_are_shell_and_the_configuration_is_flowers(folder: Path) -> None:
    scripts = sorted(folder.rglob("*.sh"))
    assert len(scripts) == 4
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
        assert stat.S_IMODE(script.stat().st_mode) == 0o700
    config = tomllib.loads((folder / "operator/config.toml").read_text("utf-8"))
    link = config["superlink"][config["superlink"]["default"]]
    assert link["address"] == "localhost:8000"
    assert Path(link["root-certificates"]).samefile(folder / "operator/ca.pem")


@pytest.mark.parametrize(("nodes", "said"), [("a", "1 node, "), ("ab", "2 nodes, ")])
def test_what_was_prepared_is_counted(tmp_path: Path, capsys, nodes: str, said: str) -> None:
    named = [word for node in nodes for word in ("--node", node)]
    assert main(["flower", "prepare", str(tmp_path / "hq"), "--host", "localhost", *named]) == 0
    assert said in capsys.readouterr().out
    title = (tmp_path / "hq/README.md").read_text("utf-8").splitlines()[0]
    assert title == f"# A Flower deployment of {said[:-2]}"


def test_a_folder_that_is_there_is_left_alone(folder: Path, capsys) -> None:
    before = contents(folder)
    again = ["flower", "prepare", str(folder), "--host", "localhost", "--node", "a"]
    assert main(again) == 2
    assert "must not exist, since keys are never overwritten" in capsys.readouterr().err
    assert contents(folder) == before


def test_a_node_is_added_and_the_others_keep_their_keys(folder: Path, capsys) -> None:
    before = contents(folder)
    assert main(["flower", "add", str(folder), "--node", "attic"]) == 0
    after = contents(folder)
    changed = {str(p.relative_to(folder)) for p in before if after[p] != before[p]}
    scripts = {f"nodes/{node}/start.sh" for node in LAYOUT.nodes}
    assert changed == {"deployment.json", "README.md", *scripts}
    told = capsys.readouterr().out  # all that goes to another machine
    assert "nodes/attic" in told
    assert "every other node's start.sh" in told
    assert "partition-id=2 num-partitions=3" in (folder / "nodes/attic/start.sh").read_text("utf-8")
    assert main(["flower", "check", str(folder)]) == 0
    assert main(["flower", "add", str(folder), "--node", "attic"]) == 2


@pytest.mark.parametrize("command", [["renew"], ["add", "--node", "attic"]], ids=lambda c: c[0])
def test_what_a_killed_command_left_is_in_nobodys_way(folder: Path, command: list[str]) -> None:
    for name in (".README.md.new", "superlink/.server.pem.new", "nodes/garage/.start.sh.new"):
        (folder / name).write_text("half", encoding="utf-8")
        (folder / name).chmod(0o644)
    assert main(["flower", command[0], str(folder), *command[1:]]) == 0
    assert b"half" not in (folder / "superlink/server.pem").read_bytes()
    assert stat.S_IMODE((folder / "nodes/garage/start.sh").stat().st_mode) == 0o700
    assert main(["flower", "check", str(folder)]) == 0


def test_the_authority_says_how_long_it_lasts_and_what_it_signs_is_named(folder: Path) -> None:
    assert expiry((folder / "ca/ca.pem").read_bytes()).date() == (NOW + timedelta(days=3650)).date()
    server = (folder / "superlink/server.pem").read_bytes()
    # Its own processes ask it where it listens.
    assert hosts_of(server) == ("localhost", "hq.example.org", "127.0.0.1")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "https://hq.example.org", "--node", "a"], "without scheme, port or path"),
        (["--host", "hq.example.org:8000", "--node", "a"], "without scheme, port or path"),
        (["--host", "300.1.1.1", "--node", "a"], "a name or an IP address"),
        (["--host", "", "--node", "a"], "a name or an IP address"),
        (["--host", "$(reboot)", "--node", "a"], "a name or an IP address"),
        (["--host", "h", "--node", "../a"], "names a folder"),
        (["--host", "h", "--node", "A b"], "names a folder"),
        (["--host", "h", "--node", "a'; reboot; '"], "names a folder"),
        (["--host", "h", "--node", "a", "--node", "a"], "comes twice"),
        (["--host", "h", "--node", "a", "--port", "0"], "1 <= --port <= 65535"),
        (["--host", "h", "--node", "a", "--runtime-port", "70000"], "--runtime-port <= 65535"),
        (["--host", "h", "--node", "a", "--runtime-port", "8000"], "must lie outside the nodes'"),
        (["--host", "h", "--node", "a", "--listen", "everywhere"], "must be an IP address"),
        (["--host", "h", "--node", "a", "--days", "0"], "1 <= --days"),
        (["--host", "h", "--node", "a", "--days", "90", "--ca-days", "30"], "cannot outlast"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys, arguments: list[str], reason: str
) -> None:
    assert main(["flower", "prepare", str(tmp_path / "hq"), *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_check_finds_what_was_damaged(folder: Path) -> None:
    (folder / "nodes/garage/node.key").chmod(0o644)
    (folder / "nodes/kitchen/runtime.pem").write_text("none", encoding="utf-8")
    (folder / "superlink/server.key").write_bytes(
        (folder / "nodes/garage/runtime.key").read_bytes()
    )
    (folder / "ca/ca.key").unlink()  # kept elsewhere, as it should be
    (folder / "nodes/kitchen/runtime.key").unlink()
    wrong = {f.place: f.says for f in check_folder(folder, NOW, 30) if f.mend}
    assert wrong == {
        "nodes/garage/node.key": "can be read by others (mode 0644)",
        "nodes/kitchen/runtime.pem": wrong["nodes/kitchen/runtime.pem"],
        "superlink/server.pem": "is not the certificate of server.key",
        "nodes/kitchen/runtime.key": "is not there",
    }
    assert wrong["nodes/kitchen/runtime.pem"].startswith("is no certificate: ")


@pytest.mark.parametrize("text", ["{", "[]", '{"hosts": ["h"]}', "null"])
def test_a_folder_that_is_none_or_damaged_is_refused(tmp_path: Path, capsys, text: str) -> None:
    assert main(["flower", "check", str(tmp_path)]) == 2
    assert "must be a folder of `fedhq flower prepare`" in capsys.readouterr().err
    (tmp_path / "deployment.json").write_text(text, encoding="utf-8")
    assert main(["flower", "check", str(tmp_path)]) == 2
    assert "Restore it" in capsys.readouterr().err


def test_settings_that_were_tampered_with_name_no_other_folder(folder: Path, capsys) -> None:
    settings = json.loads((folder / "deployment.json").read_text("utf-8"))
    settings["nodes"] = ["../../elsewhere"]
    (folder / "deployment.json").write_text(json.dumps(settings), encoding="utf-8")
    assert main(["flower", "renew", str(folder)]) == 2
    assert "names a folder" in capsys.readouterr().err


def test_the_command_loads_neither_torch_nor_flower() -> None:
    code = (
        "import sys\nfrom fedhq.studies.entry import main\n"
        "assert main(['flower', 'check', '/nowhere']) == 2\n"
        "assert not {'torch', 'flwr', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
