"""The real registry, `docker-registry`, on loopback with a directory of its own.

`registry_server` is a fixture with one that needs no login; `running` starts any kind:
with passwords (htpasswd), with tokens, in TLS.  A test that writes shares the server with
the others, so it takes a repository name of its own (`RegistryServer.name`).
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.helpers.certificates import Authority
from tests.helpers.mounts import DEADLINE
from tests.helpers.processes import ending
from tests.helpers.token_server import TokenServer

TOP = Path(__file__).resolve().parent.parent.parent
EXTRACTED = TOP / ".cache" / "docker-registry" / "usr" / "bin" / "docker-registry"

USER, PASSWORD = "ann", "correct horse"
# htpasswd -B of the two above.
_HTPASSWD = f"{USER}:$2b$04$ZrCaChXnkicVm2Dr6AGTMO/XgYP59dw6pVRtMTpjbwAHdtMVLy0fG\n"

_LISTENING = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")
_names = itertools.count(1)


@dataclass
class RegistryServer:
    """A running registry: `host` is "127.0.0.1:PORT", `root` where it keeps everything."""

    host: str
    root: Path
    scheme: str = "http"
    username: str = ""
    password: str = field(default="", repr=False)
    authority: Authority | None = None
    tokens: TokenServer | None = None
    log: list[str] = field(default_factory=list, repr=False)

    @property
    def port(self) -> int:
        return int(self.host.rpartition(":")[2])

    def name(self, stem: str = "test") -> str:
        """Return the name of a repository that no other test uses, without the host."""
        return f"{stem}/r{os.getpid()}-{next(_names)}"

    def blob(self, digest: str) -> Path:
        """Return where the registry keeps the content of a blob."""
        encoded = digest.partition(":")[2]
        blobs = self.root / "docker" / "registry" / "v2" / "blobs" / "sha256"
        return blobs / encoded[:2] / encoded / "data"

    def requests(self) -> list[str]:
        """Return the lines of the access log so far, each '"GET /v2/… HTTP/1.1" 200 …'."""
        return [line for line in self.log if " HTTP/1.1" in line]


def program() -> str | None:
    """Return the path of docker-registry, None if it is not here."""
    return shutil.which("docker-registry") or (str(EXTRACTED) if EXTRACTED.exists() else None)


@contextmanager
def running(
    base: Path,
    *,
    auth: str = "",
    tls: bool = False,
    client_certificate: bool = False,
    blobs_at: str = "",
) -> Iterator[RegistryServer]:
    """Start a registry below the directory `base`; `auth` is "", "htpasswd" or "token".

    In TLS it may want a `client_certificate` of its own authority.  It redirects the reading
    of blobs to `blobs_at`, an address of their directory.
    """
    registry = program()
    if registry is None:
        pytest.skip("docker-registry is not here; `make test` gets it")
    root = base / "registry"
    root.mkdir(parents=True)
    server = RegistryServer("", root, "https" if tls else "http")
    with ExitStack() as stack:
        config = _config(stack, base, server, auth, tls, client_certificate)
        if blobs_at:
            config += (
                "middleware:\n  storage:\n"
                f"    - {{name: redirect, options: {{baseurl: '{blobs_at}'}}}}\n"
            )
        path = base / "config.yml"
        path.write_text(config)
        process = stack.enter_context(
            ending(
                subprocess.Popen(
                    [registry, "serve", str(path)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    cwd=base,
                    env={"PATH": os.environ["PATH"], "HOME": str(base)},
                )
            )
        )
        listening = threading.Event()
        reader = threading.Thread(target=_follow, args=(process, server, listening), daemon=True)
        reader.start()
        stack.callback(_reaped, process, reader)
        if not listening.wait(DEADLINE) or not server.host:
            raise AssertionError("docker-registry does not start:\n" + "".join(server.log))
        yield server


@pytest.fixture(scope="session")
def registry_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry in plain HTTP that needs no login, shared by the tests of a process."""
    with running(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="session")
def password_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry in plain HTTP with a password."""
    with running(tmp_path_factory.mktemp("registry"), auth="htpasswd") as server:
        yield server


@pytest.fixture(scope="session")
def token_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry in plain HTTP with a token server."""
    with running(tmp_path_factory.mktemp("registry"), auth="token") as server:
        yield server


@pytest.fixture(scope="session")
def tls_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry in TLS with a password, whose authority no machine trusts."""
    with running(tmp_path_factory.mktemp("registry"), auth="htpasswd", tls=True) as server:
        yield server


def _config(
    stack: ExitStack,
    base: Path,
    server: RegistryServer,
    auth: str,
    tls: bool,
    client_certificate: bool,
) -> str:
    lines = [
        "version: 0.1",
        "log: {level: info, accesslog: {disabled: false}}",
        "storage:",
        "  delete: {enabled: true}",
        f"  filesystem: {{rootdirectory: '{server.root}'}}",
        "http:",
        "  addr: 127.0.0.1:0",
        "  secret: only-for-tests",
    ]
    if tls:
        server.authority = Authority.make(base / "authority")
        pair = server.authority.issue("127.0.0.1")
        lines += ["  tls:", f"    certificate: '{pair.certificate}'", f"    key: '{pair.key}'"]
        if client_certificate:
            lines.append(f"    clientcas: ['{server.authority.certificate}']")
    if auth:
        server.username, server.password = USER, PASSWORD
    if auth == "htpasswd":
        (base / "htpasswd").write_text(_HTPASSWD)
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: '{base / 'htpasswd'}'}}}}")
    if auth == "token":
        server.tokens = stack.enter_context(TokenServer.running(base / "tokens", USER, PASSWORD))
        lines += [
            "auth:",
            "  token:",
            f"    realm: {server.tokens.realm}",
            f"    service: {server.tokens.service}",
            f"    issuer: {server.tokens.issuer}",
            f"    rootcertbundle: '{server.tokens.certificate}'",
        ]
    return "\n".join(lines) + "\n"


def _follow(
    process: subprocess.Popen[str], server: RegistryServer, listening: threading.Event
) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        server.log.append(line)
        found = _LISTENING.search(line)
        if found:
            server.host = found[1]
            listening.set()
    listening.set()  # it ended


def _reaped(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    """End the process before its pipe, so that the reader is at the end of that."""
    process.terminate()
    process.wait(DEADLINE)
    reader.join(20)
