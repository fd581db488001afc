"""Real processes of Flower on loopback: a SuperLink, SuperNodes, runs; all ended when it closes.

Every process has a home and a log of its own, and is ended with all that it started, by their ids.
Nothing leaves the machine: reports, update checks and installations are off.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
COMMANDS = Path(sys.executable).parent
NAME = "here"
"""Of the SuperLink in the configuration of `flwr`."""


class Deployment:
    """Processes of one deployment.

    Args:
        folder: An empty folder for homes and logs.
        root_certificates: What `flwr` checks the SuperLink's certificate with; None: insecure.
    """

    def __init__(self, folder: Path, root_certificates: Path | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        home = self._home("flwr")
        secured = f'root-certificates = "{root_certificates}"' if root_certificates else ""
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{NAME}"\n[superlink.{NAME}]\n'
            f'address = "{self.address}"\n{secured or "insecure = true"}\n',
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running = list(self._processes.values())
        _kill([process.pid for process in running if process.poll() is None])
        for process in running:
            process.wait()

    @property
    def address(self) -> str:
        """Where the SuperLink listens."""
        return f"127.0.0.1:{self.port}"

    def start(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Starts a process whose log is `log(name)`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                env=self._environment(name),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._processes[name] = process
        return process

    def start_superlink(self, *options: str) -> None:
        """Starts an insecure SuperLink, and waits until it listens."""
        command = ["flower-superlink", "--insecure", "--host", "127.0.0.1"]
        self.start("superlink", [*command, "--port", str(self.port), *options])
        self.wait_for_port("superlink")

    def wait_for_port(self, name: str, seconds: float = 60) -> None:
        """Waits until the SuperLink that process `name` is listens."""

        def listens() -> bool:
            assert self._processes[name].poll() is None, self.log(name)
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_until(listens, seconds)

    def start_node(self, name: str, config: Mapping[str, int | float | str]) -> None:
        """Starts an insecure SuperNode."""
        command = ["flower-supernode", "--insecure", "--superlink", self.address]
        command += ["--port", str(free_port()), "--node-config", toml_pairs(config)]
        self.start(name, command)

    def kill(self, name: str) -> None:
        """Ends a process and what it started, at once and without a word, as a power cut does."""
        process = self._processes.pop(name)
        _kill([process.pid])
        process.wait()

    def flwr(self, *arguments: str | Path, seconds: float = 60) -> str:
        """What a command of `flwr` prints."""
        done = subprocess.run(
            ["flwr", *map(str, arguments)],
            env=self._environment("flwr"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start_run(
        self, app: Path, config: Mapping[str, int | float | str], *options: str
    ) -> subprocess.Popen[bytes]:
        """Starts `flwr run APP --stream`; it ends with the run, and its log is `log("run")`."""
        command = ["flwr", "run", app, NAME, "--stream", "--run-config", toml_pairs(config)]
        return self.start("run", [*command, *options])

    def log(self, name: str) -> str:
        """What a process has printed so far."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def logs(self) -> str:
        """The last lines of all logs, for a failed assertion."""
        return "\n".join(
            f"== {path.name}\n{path.read_text('utf-8', errors='replace')[-3000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def _home(self, name: str) -> Path:
        home = self.folder / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def _environment(self, name: str) -> dict[str, str]:
        home = self._home("flwr" if name == "run" else name)
        path = f"{COMMANDS}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **QUIET, "FLWR_HOME": str(home), "PATH": path}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def toml_pairs(config: Mapping[str, int | float | str]) -> str:
    """Keys and values as options of Flower take them."""
    return " ".join(
        f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}"
        for key, value in config.items()
    )


def wait_until(holds: Callable[[], bool], seconds: float, what: str = "") -> None:
    """Waits until a condition holds; fails after that many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s; {what}"
        time.sleep(0.1)


def _kill(roots: Sequence[int]) -> None:
    """Ends processes and all that they started: Flower's children lead sessions of their own."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = int(stat.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    doomed = list(roots)
    for pid in doomed:  # grows
        doomed += children.get(pid, [])
    for pid in doomed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
