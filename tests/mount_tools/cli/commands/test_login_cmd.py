"""`pyunion login` and `logout`: what is asked, tried, stored and erased."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import Cli
from tests.helpers.registry_server import RegistryServer
from tests.helpers.terminals import terminal
from tests.mount_tools.cli.commands.conftest import at_home

PYUNION = (sys.executable, "-m", "mount_tools.pyunion")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return at_home(tmp_path, monkeypatch)


def log_in(cli: Cli, server: RegistryServer) -> str:
    done = cli(
        "login",
        "-u",
        server.username,
        "--password-stdin",
        server.host,
        given=f"{server.password}\n",
    )
    assert (done.status, done.out) == (0, "Login Succeeded\n"), done
    return done.err


def test_credentials_are_tried_and_stored(
    cli: Cli, home: Path, password_registry: RegistryServer, tmp_path: Path
) -> None:
    server = password_registry
    said = log_in(cli, server)
    path = home / ".docker" / "config.json"
    assert f"stored unencrypted in {path}." in said
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(json.loads(path.read_text())["auths"]) == [server.host]
    (tmp_path / "tree").mkdir()
    name = f"{server.host}/{server.name()}:1"
    cli.ok("import", str(tmp_path / "tree"), name)
    cli.ok("push", "-q", name)
    again = cli("login", server.host)
    assert (again.status, again.out) == (0, "Login Succeeded\n")
    assert cli.ok("logout", server.host) == f"Removing login credentials for {server.host}\n"
    assert cli.ok("logout", server.host) == f"Not logged in to {server.host}\n"
    assert json.loads(path.read_text()) == {"auths": {}}
    refused = cli.fails("push", "-q", name)
    assert refused.startswith("Error: ") and server.host in refused


def test_wrong_credentials_are_not_stored(
    cli: Cli, home: Path, password_registry: RegistryServer
) -> None:
    words = ("login", "-u", "ann", "--password-stdin", password_registry.host)
    done = cli(*words, given="a wrong one")
    assert done.status == 1 and done.out == "" and done.err.startswith("Error: ")
    assert done.err.count(password_registry.host) == 2 and "a wrong one" not in done.err
    assert not (home / ".docker").exists()


def test_a_terminal_is_asked_without_an_echo(home: Path, password_registry: RegistryServer) -> None:
    server = password_registry
    with terminal() as tty:
        process = subprocess.Popen(
            [*PYUNION, "login", server.host],
            stdin=tty.program,
            stdout=tty.program,
            stderr=tty.program,
            start_new_session=True,
            env={**os.environ, "HOME": str(home)},
        )
        with process:
            tty.await_text(b"Username: ")
            tty.type(b"ann\n")
            tty.await_text(b"Password: ")
            tty.type(server.password.encode() + b"\n")
            said = tty.await_text(b"Login Succeeded")
            assert process.wait(30) == 0
    assert server.password.encode() not in said


def test_refusals(cli: Cli, home: Path) -> None:
    refused = cli.fails("login", "-u", "ann", "-p", "secret", "host")
    assert refused.startswith("--password is refused") and "secret" not in refused
    assert cli.fails("login", "--password-stdin") == (
        "Must provide --username with --password-stdin\n"
    )
    assert cli.fails("login", "127.0.0.1:1") == (
        "Error: Cannot perform an interactive login from a non TTY device\n"
    )
    empty = cli("login", "-u", "ann", "--password-stdin", "127.0.0.1:1", given="\n")
    assert empty.err == "Error: Password Required\n"
    assert "is not the name of a registry" in cli.fails("login", "a b")
    assert cli.ok("logout") == "Not logged in to https://index.docker.io/v1/\n"
