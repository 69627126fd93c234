"""The images: small, unprivileged, nothing to build with in them, content with a read-only root."""

import pytest

from tests.compose.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ADDED_MB = 260
TOOLS = ("pip", "pip3", "uv", "gcc", "cc", "make", "git")
HEAVY = ("torch", "ray", "scipy", "pandas", "sklearn", "matplotlib")


def megabytes(engine: Engine, image: str) -> float:
    return int(engine.run("image", "inspect", "--format", "{{.Size}}", image)) / 1e6


def shell(engine: Engine, image: str, script: str, *options: str) -> str:
    command = ("run", "--rm", "--network", "none", *options, "--entrypoint", "sh", image, "-c", script)
    return engine.run(*command)


def test_a_client_adds_little_to_its_base(engine: Engine, base: str, tag: str, tell: list[str]) -> None:
    before, after = megabytes(engine, base), megabytes(engine, f"localgd-client:{tag}")
    tell.append(f"localgd-client: {after:.0f} MB, {after - before:.0f} MB more than its base image")
    assert 50 < after - before <= ADDED_MB


@pytest.mark.parametrize("target", ["client", "server"])
def test_an_image_holds_what_it_runs_and_nothing_more(engine: Engine, tag: str, target: str) -> None:
    image = f"localgd-{target}:{tag}"
    found = shell(
        engine, image, f"for tool in {' '.join(TOOLS)}; do command -v $tool; done; pwd; ls -A /srv/localgd"
    )
    assert found.splitlines() == ["/srv/localgd"]
    script = f"import importlib.util as u; print([m for m in {HEAVY} if u.find_spec(m)])"
    assert shell(engine, image, f'/opt/localgd/bin/python -c "{script}"') == "[]"
    assert shell(engine, image, "ls -d /src /pip /run/secrets 2>/dev/null; id -u") == "10001"


def test_any_user_can_run_it_on_a_read_only_root(engine: Engine, tag: str) -> None:
    said = shell(
        engine,
        f"localgd-client:{tag}",
        "touch /opt/localgd/x /srv/localgd/x 2>/dev/null; localgd pki --out $HOME/pki --client a && id -u",
        *("--read-only", "--tmpfs", "/tmp", "--user", "12345:12345"),
    )
    assert "/tmp/pki/a.key" in said
    assert said.endswith("\n12345")
