"""A Docker engine for tests: the one that is there, or one of our own for as long as the tests take."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT

PUBLISHED = "python:3.11-slim"  # the Dockerfile's own choice
# Whether the machine's packet filter sees what one container sends another over a bridge. It drops that
# wherever an earlier engine has left its rules, and ours adds none.
BRIDGED_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
SUITE = "bookworm"  # what a base is made of where that cannot be pulled
MEMORY_GIB = 8  # to have at least, before temporary files are kept in half of it
PACKAGES = ("docker.io", "docker-compose", "debootstrap", "iptables")


class NoEngine(Exception):
    """Why there is no Docker engine to test with."""


@dataclass(frozen=True)
class Engine:
    """How to reach an engine: the two commands, and the environment that they take."""

    docker: str
    compose: tuple[str, ...]
    environment: Mapping[str, str]

    def run(self, *arguments: object, limit: float = 60, check: bool = True) -> str:
        """Run a ``docker`` command; its stdout and stderr, without the last line's end."""
        return run([self.docker, *map(str, arguments)], self.environment, limit, check=check)[1].rstrip("\n")


def run(
    command: list[str],
    environment: Mapping[str, str],
    limit: float,
    check: bool = True,
    cwd: Path | None = None,
) -> tuple[int, str]:
    """Run a command within `limit` seconds; its exit code, which `check` wants to be 0, and all it wrote."""
    done = subprocess.run(
        command,
        env=dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=limit,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}")
    return done.returncode, done.stdout


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Give the engine that answers, else start one if that is allowed, and stop it at the end.

    Raises
    ------
    NoEngine
        When there is none and none may be started: that takes root and ``CI=true`` or
        ``LOCALGD_START_DOCKER=1``, since packages are installed for it.
    """
    environment = dict(os.environ)
    found = _reachable(environment)
    if not found and not _allowed():
        raise NoEngine(
            "no Docker engine with BuildKit and compose answers; one is installed and started here only for "
            "root, and with CI=true or LOCALGD_START_DOCKER=1"
        )
    if not found and not (_commands() and shutil.which("dockerd") and shutil.which("iptables")):
        _install()
        found = _reachable(environment)  # some systems start it when it is installed
    if found:
        yield found
        return
    commands = _commands()
    if not (commands and shutil.which("dockerd")):
        raise NoEngine(
            f"with {', '.join(PACKAGES)} installed there is still no engine with BuildKit and compose"
        )
    docker, compose = commands
    with _folder("localgd-docker-") as folder:
        environment["DOCKER_HOST"] = f"unix://{folder}/socket"
        with _setting(BRIDGED_FILTER, "0"), _daemon(folder, docker, environment):
            yield Engine(docker, compose, environment)


def base_image(engine: Engine) -> str:
    """Return the image to build on: ``BASE_IMAGE``, the published one, or one made here.

    Raises
    ------
    NoEngine
        When neither can be had.
    """
    if chosen := os.environ.get("BASE_IMAGE"):
        return chosen
    for attempt in (("image", "inspect", PUBLISHED), ("pull", "--quiet", PUBLISHED)):
        code, said = run([engine.docker, *attempt], engine.environment, 180, check=False)
        if code == 0:
            return PUBLISHED
    if not (_allowed() and shutil.which("debootstrap")):
        last = " ".join(said.split()[-20:])
        raise NoEngine(f"{PUBLISHED} cannot be pulled, and no base image is named in BASE_IMAGE: {last}")
    with _folder("localgd-base-") as folder:
        tree, name = folder / "base", "localgd-base:test"
        include = "--include=python3,python3-venv,ca-certificates"
        code, said = run(
            ["debootstrap", "--variant=minbase", include, SUITE, str(tree)], os.environ, 600, check=False
        )
        if code != 0:
            raise NoEngine(f"debootstrap cannot make a base image here: {' '.join(said.split()[-30:])}")
        for cache in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(tree / cache)
        archive = folder / "base.tar"
        run(["tar", "-C", str(tree), "-cf", str(archive), "."], os.environ, 120)
        engine.run("import", archive, name, limit=120)
    return name


def build(engine: Engine, base: str, target: str, tag: str) -> None:
    """Build one image, with this machine's way to the package index, of which nothing stays in the image."""
    with tempfile.TemporaryDirectory(prefix="localgd-build-") as folder:
        secrets = []
        for name, path in _index_secrets(Path(folder)).items():
            secrets += ["--secret", f"id={name},src={path}"]
        proxies = [name for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY") if name in os.environ]
        arguments = [word for name in proxies for word in ("--build-arg", name)]
        arguments += ["--build-arg", f"BASE_IMAGE={base}", "--target", target, "--tag", tag, *secrets]
        command = [engine.docker, "build", "--network", "host", "-f", "docker/Dockerfile", *arguments, "."]
        run(command, {**engine.environment, "DOCKER_BUILDKIT": "1"}, 900, cwd=ROOT)


def _allowed() -> bool:
    """Whether packages may be installed, and an engine and a base image made, on this machine."""
    asked = os.environ.get("CI") == "true" or os.environ.get("LOCALGD_START_DOCKER") == "1"
    return asked and os.geteuid() == 0


def _reachable(environment: Mapping[str, str]) -> Engine | None:
    commands = _commands()
    return Engine(*commands, environment) if commands and _answers(commands[0], environment) else None


def _commands() -> tuple[str, tuple[str, ...]] | None:
    docker = _docker()
    compose = _compose(docker) if docker else None
    return (docker, compose) if docker and compose else None


def _docker() -> str | None:
    """The first ``docker`` on the path that builds with BuildKit, on its own or by its plugin."""
    for folder in os.get_exec_path():
        command = shutil.which("docker", path=folder)
        if not command:
            continue
        _, version = run([command, "version", "--format", "{{.Client.Version}}"], os.environ, 20, check=False)
        own = version.split(".")[0].isdigit() and 18 < int(version.split(".")[0]) < 23
        if own or run([command, "buildx", "version"], os.environ, 20, check=False)[0] == 0:
            return command
    return None


def _compose(docker: str) -> tuple[str, ...] | None:
    if run([docker, "compose", "version"], os.environ, 20, check=False)[0] == 0:
        return docker, "compose"
    return ("docker-compose",) if shutil.which("docker-compose") else None


def _answers(docker: str, environment: Mapping[str, str]) -> bool:
    return run([docker, "info"], environment, 20, check=False)[0] == 0


def _install() -> None:
    if not shutil.which("apt-get"):
        raise NoEngine(
            "no Docker engine answers, and it can be installed here only with apt-get, which is missing"
        )
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
        code, said = run(["apt-get", *step], quiet, 400, check=False)
        if code != 0:
            raise NoEngine(f"apt-get {' '.join(step)} failed: {' '.join(said.split()[-30:])}")


@contextlib.contextmanager
def _daemon(folder: Path, docker: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a daemon that leaves the machine's network alone: no bridge, no rules, no forwarding of its own."""
    places = [f"--{name}={folder / name}" for name in ("data-root", "exec-root", "pidfile")]
    network = [
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
    ]
    log_path = folder / "log"
    with log_path.open("wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", *places, *network, f"--host={environment['DOCKER_HOST']}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while not _answers(docker, environment):
            if daemon.poll() is not None or time.monotonic() > deadline:
                last = " ".join(log_path.read_text(errors="replace").split()[-40:])
                raise NoEngine(f"dockerd does not come up here: {last}")
            time.sleep(0.5)
        yield
    finally:
        daemon.terminate()  # it stops its containers and its containerd
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait(20)


@contextlib.contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    """Make a temporary folder, in memory where there is plenty: tens of thousands of files go through it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))  # a socket's path has to be short
    available = int(re.findall(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())[0]) / 2**20
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEMORY_GIB // 2}g", prefix, str(folder)]
    mounted = available > MEMORY_GIB and run(mount, os.environ, 20, check=False)[0] == 0
    try:
        yield folder
    finally:
        if mounted:  # lazily: a process that is just ending may still be in it
            run(["umount", "-l", str(folder)], os.environ, 60, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _setting(file: Path, value: str) -> Iterator[None]:
    """Set a kernel parameter, if there is such a one, and put it back."""
    if not file.exists():
        yield
        return
    before = file.read_text()
    file.write_text(value)
    try:
        yield
    finally:
        file.write_text(before)


def _index_secrets(folder: Path) -> dict[str, Path]:
    """This machine's way to the package index, from pip's own configuration, as files for the build."""
    _, listed = run([sys.executable, "-m", "pip", "config", "list"], os.environ, 60, check=False)
    found: dict[str, str] = {}
    for line in listed.splitlines():
        key, separator, value = line.partition("=")
        if separator and key.startswith(("global.", ":env:.", "install.")):
            found[key.rpartition(".")[2]] = value.strip("'\"")
    lines = ["[global]"]
    for key in ("index-url", "extra-index-url", "trusted-host", "proxy"):
        values = [word for word in found.get(key, "").split() if not word.startswith("file:")]
        lines += [f"{key} = {' '.join(values)}"] * bool(values)
    secrets = {}
    if len(lines) > 1:
        secrets["pip.conf"] = folder / "pip.conf"
        secrets["pip.conf"].write_text("\n".join(lines) + "\n", encoding="utf-8")
    candidates = (found.get("cert"), *map(os.environ.get, ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")))
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            secrets["ca.crt"] = Path(candidate)
            break
    return secrets
