"""`pyunion login` and `logout`: what is asked, tried, stored and erased."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.certificates import Authority
from tests.helpers.cli import Cli
from tests.helpers.mounts import DEADLINE
from tests.helpers.registry_server import RegistryServer
from tests.helpers.terminals import terminal
from tests.layerstore.registry.locations import write
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


def test_a_registry_in_tls_with_its_authority_in_certs_d(
    cli: Cli, home: Path, tls_registry: RegistryServer, tmp_path: Path
) -> None:
    server = tls_registry
    assert server.authority is not None
    directory = home / ".config/containers/certs.d" / server.host
    other = Authority.make(tmp_path / "other")
    write(directory / "ca.crt", other.certificate.read_text())
    words = ("login", "-u", server.username, "--password-stdin", server.host)
    refused = cli(*words, given=server.password)
    assert refused.status == 1 and "is not trusted here" in refused.err
    assert server.password not in refused.err and not (home / ".docker").exists()
    write(directory / "ca.crt", server.authority.certificate.read_text())
    log_in(cli, server)
    name = f"{server.host}/{server.name()}:1"
    (tmp_path / "tree").mkdir()
    cli.ok("import", str(tmp_path / "tree"), name)
    digest = cli.ok("push", name).split()[-3]
    away = Cli(tmp_path / "away")
    assert f"Digest: {digest}" in away.ok("pull", name).splitlines()
    assert away.ok("images", "-q", "--no-trunc") == cli.ok("images", "-q", "--no-trunc")
    cli.ok("logout", server.host)
    assert f"`pyunion login {server.host}` first" in away.fails("pull", name)


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
            assert process.wait(DEADLINE) == 0
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
