"""`pyunion pull`: docker's lines, and what `create` does about an image that is not here."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from layerstore import Image
from tests.helpers.cli import Cli
from tests.helpers.hostile_registry import Exchange, HostileRegistry, silent
from tests.helpers.mounts import DEADLINE, wait_until
from tests.helpers.registries import LAYERS, MemoryRegistry, plain_layer
from tests.helpers.registry_server import RegistryServer
from tests.helpers.terminals import terminal
from tests.mount_tools.cli.commands.conftest import at_home

PYUNION = (sys.executable, "-m", "mount_tools.pyunion")


@pytest.fixture
def name(cli: Cli, hub: RegistryServer, tmp_path: Path) -> str:
    """The name of an image of two layers in the registry."""
    made = f"{hub.host}/{hub.name()}"
    for number in (1, 2):
        tree = tmp_path / f"tree{number}"
        tree.mkdir()
        (tree / "file").write_text(f"{made} {number}")
        cli.ok("import", "-c", "CMD true", str(tree), f"{made}:{number}")
        cli.ok("push", "-q", f"{made}:{number}")
    cli.ok("tag", f"{made}:2", made)
    cli.ok("push", "-q", made)
    return made


@pytest.fixture
def other(tmp_path: Path, name: str) -> Cli:
    """`pyunion` on another store, which has nothing."""
    return Cli(tmp_path / "other")


def path_of(name: str) -> str:
    """Return the name without its host, as docker shows it."""
    return name.partition("/")[2]


def test_the_lines_are_dockers(other: Cli, name: str) -> None:
    said = other.ok("pull", name).splitlines()
    short = re.escape(said[2].partition(":")[0])
    assert said[:2] == ["Using default tag: latest", f"latest: Pulling from {path_of(name)}"]
    told = [line.partition(": ")[2] for line in said[2:-3]]
    assert told == ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"]
    assert all(re.match(short, line) for line in said[2:-3])
    assert re.fullmatch(r"Digest: sha256:[0-9a-f]{64}", said[-3])
    assert said[-2:] == [f"Status: Downloaded newer image for {name}:latest", f"{name}:latest"]
    digest = said[-3].partition(" ")[2]
    assert other.ok("pull", f"{name}:latest").splitlines() == [
        f"latest: Pulling from {path_of(name)}",
        f"Digest: {digest}",
        f"Status: Image is up to date for {name}:latest",
        f"{name}:latest",
    ]
    assert other.ok("pull", "-q", f"{name}@{digest}") == f"{name}@{digest}\n"
    assert other.ok("inspect", "-f", "{{index .RepoDigests 0}}", name) == f"{name}@{digest}\n"
    assert other.ok("pull", f"{name}:latest@{digest}").splitlines() == [
        f"{name}@{digest}: Pulling from {path_of(name)}",
        f"Digest: {digest}",
        f"Status: Image is up to date for {name}@{digest}",
        f"{name}:latest@{digest}",
    ]


def test_all_tags(other: Cli, name: str) -> None:
    said = other.ok("pull", "-a", name).splitlines()
    assert sorted(line for line in said if "Pulling from" in line) == [
        f"{tag}: Pulling from {path_of(name)}" for tag in ("1", "2", "latest")
    ]
    assert said[-2:] == [f"Status: Downloaded newer image for {name}", name]
    assert other.ok("images", "-q", name).count("\n") == 3
    assert other.ok("pull", "-aq", name) == f"{name}\n"


def test_refusals(other: Cli, name: str) -> None:
    assert other.fails("pull", "Debian").startswith("Error: invalid reference format: repository")
    assert other.fails("pull", "-a", f"{name}:1") == "tag can't be used with --all-tags/-a\n"
    missing = other.fails("pull", f"{name}:nope")
    assert missing.startswith("Error: ") and missing.count("\n") == 1 and "nope" in missing
    assert other.fails("pull", "--parallel", "0", name, status=125) == (
        "--parallel 0: at least one layer is transferred at a time\n"
    )
    assert "wanted linux/s390x, actual" in other.fails("pull", "--platform", "s390x", name)
    assert other.fails("pull", "--platform", "foo", name) == (
        'Error: "foo": unknown operating system or architecture: invalid argument\n'
    )
    assert other.ok("images", "-aq") == "" and other.ok("check").endswith("no findings\n")


def test_as_many_layers_as_asked_are_fetched_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(tmp_path, monkeypatch)
    memory = MemoryRegistry()
    kept = memory.image(*[plain_layer(number) for number in range(6)])
    config = json.loads(kept.data)["config"]["digest"]
    for count in (1, 2, 6):
        gate = threading.Barrier(count)

        def together(exchange: Exchange, gate: threading.Barrier = gate) -> bool:
            if exchange.is_blob and not exchange.route.endswith(config):
                gate.wait(DEADLINE)  # it breaks unless as many come
            return False

        with HostileRegistry.running() as registry:
            for data in memory.blobs.values():
                registry.add_blob(data)
            registry.add_manifest("1", kept.data, kept.media_type)
            registry.behave(together)
            cli = Cli(tmp_path / str(count))
            cli.ok("pull", "-q", "--parallel", str(count), f"{registry.host}/x:1")
            assert not gate.broken


def test_create_pulls_what_is_missing(other: Cli, name: str) -> None:
    done = other("create", "--name", "box", f"{name}:1")
    assert done.status == 0 and re.fullmatch(r"[0-9a-f]{64}\n", done.out)
    lines = done.err.splitlines()
    assert lines[0] == f"Unable to find image '{name}:1' locally"
    assert lines[-1] == f"Status: Downloaded newer image for {name}:1"
    assert other.ok("create", f"{name}:1") and other.ok("create", "--pull=missing", f"{name}:1")
    assert other.ok("create", "-q", name)
    again = other("create", "--pull", "always", f"{name}:1")
    assert again.err.splitlines()[-1] == f"Status: Image is up to date for {name}:1"
    assert "No such image" in other.fails("create", "--pull", "never", f"{name}:2")
    wrong = other.fails("create", "--pull", "often", name, status=125)
    assert wrong.startswith('invalid pull option: "often"')


def test_run_fails_as_it_does_where_nothing_can_be_pulled(other: Cli, name: str) -> None:
    said = other.fails("run", f"{name}:nope", "true", status=125).splitlines()
    assert said[0] == f"Unable to find image '{name}:nope' locally"
    assert len(said) == 2 and said[1].startswith("Error: ")


def test_an_interrupt_ends_a_pull_whose_registry_is_silent(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(tmp_path, monkeypatch)
    with HostileRegistry.running() as registry:
        memory = MemoryRegistry()
        kept = memory.image(*LAYERS)
        for data in memory.blobs.values():
            registry.add_blob(data)
        registry.add_manifest("latest", kept.data, kept.media_type)
        config = json.loads(kept.data)["config"]["digest"]
        registry.behave(
            lambda exchange: config not in exchange.route and silent("/blobs/")(exchange)
        )
        command = [*PYUNION, "--root", str(cli.root), "pull", f"{registry.host}/x"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            wait_until(lambda: registry.count("GET", "/blobs/") > 2, "layers to be asked for")
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE) == 130
    assert cli.ok("images", "-q") == "" and cli.ok("check").endswith("no findings\n")


def test_a_terminal_gets_bars_with_a_total(other: Cli, name: str) -> None:
    with terminal(24, 120) as tty:
        command = [*PYUNION, "--root", str(other.root), "pull", "-a", name]
        process = subprocess.Popen(command, stdout=tty.program, stderr=subprocess.PIPE)
        with process:
            tty.await_text(b"Pull complete")
            tty.await_text(f"Downloaded newer image for {name}".encode())
            assert process.wait(DEADLINE) == 0


def test_other_commands_do_not_import_the_client(cli: Cli, base: Image) -> None:
    code = (
        "import sys; from mount_tools.cli.main import main\n"
        "for line in '--help', 'images', 'create busy:1', 'pull --help':\n"
        "    assert main([*sys.argv[1:], *line.split()]) == 0\n"
        "    loaded = {'http.client', 'ssl', 'layerstore.registry.client'} & {*sys.modules}\n"
        "    assert not loaded, (line, loaded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--root", str(cli.root)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr


def test_a_pull_of_what_is_up_to_date_imports_no_union(other: Cli, name: str) -> None:
    other.ok("pull", "-q", name)
    code = (
        "import sys; from mount_tools.cli.main import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert not [name for name in sys.modules if name.startswith('unionfs.core')]\n"
    )
    for words in (["pull", name], ["images"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "--root", str(other.root), *words],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stderr
