"""A token server for `docker-registry` with `auth: token`, on loopback.

It gives what was asked for to a known user, and `pull` to everyone else.  What it was
asked is kept, so that a test sees it.

Source: distribution docs, spec/auth/{token,oauth,jwt}.md.
"""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.helpers.certificates import Authority

REFRESH_TOKEN = "identity-of-ann"


@dataclass
class TokenServer:
    """A running token server.

    `lasts` is for how many seconds it says that its tokens are good; `posts` whether it
    takes identity tokens by POST.
    """

    realm: str
    directory: Path
    username: str
    password: str = field(repr=False)
    service: str = "the registry, of tests"
    issuer: str = "tests"
    lasts: int = 300
    posts: bool = True
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.crt"

    @classmethod
    @contextmanager
    def running(cls, directory: Path, username: str, password: str) -> Iterator[TokenServer]:
        Authority.make(directory)
        with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
            realm = f"http://127.0.0.1:{server.server_address[1]}/token"
            found = cls(realm, directory, username, password)
            server.tokens = found  # type: ignore[attr-defined]
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield found
            finally:
                server.shutdown()
                thread.join()

    def token(self, scopes: list[str], known: bool) -> str:
        """Return a signed token for the scopes."""
        now = int(time.time())
        access = []
        for scope in scopes:
            resource, _, actions = scope.rpartition(":")
            kind, _, name = resource.partition(":")
            allowed = [a for a in actions.split(",") if known or a == "pull"]
            access.append({"type": kind, "name": name, "actions": allowed})
        pem = self.certificate.read_text()
        der = "".join(line for line in pem.splitlines() if "-----" not in line)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [der]}
        claims = {
            "iss": self.issuer,
            "sub": self.username if known else "",
            "aud": self.service,
            "exp": now + 300,
            "nbf": now - 60,
            "iat": now,
            "jti": str(time.monotonic_ns()),
            "access": access,
        }
        text = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.directory / "ca.key"],
            input=text.encode(),
            capture_output=True,
            check=True,
        ).stdout
        return f"{text}.{_encoded(_raw_signature(signed))}"

    def knows(self, authorization: str | None) -> bool | None:
        """Tell whether the credentials are right; None without any."""
        if authorization is None:
            return None
        pair = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        return pair in (f"{self.username}:{self.password}", f"{self.username}:{REFRESH_TOKEN}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        tokens = self._tokens()
        query = parse_qs(urlsplit(self.path).query)
        tokens.asked.append(("GET", query))
        known = tokens.knows(self.headers.get("Authorization"))
        if known is False:
            self._say(401, {"details": "incorrect username or password"})
            return
        answer: dict[str, object] = {"token": tokens.token(query.get("scope", []), known is True)}
        if known and "offline_token" in query:
            answer["refresh_token"] = REFRESH_TOKEN
        self._say(200, {**answer, "expires_in": tokens.lasts})

    def do_POST(self) -> None:
        tokens = self._tokens()
        data = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = parse_qs(data)
        tokens.asked.append(("POST", form))
        if not tokens.posts:
            self._say(404, {})
        elif form.get("refresh_token") != [REFRESH_TOKEN]:
            self._say(401, {"error": "invalid_grant"})
        else:
            scopes = " ".join(form.get("scope", [])).split()
            self._say(200, {"access_token": tokens.token(scopes, True), "expires_in": tokens.lasts})

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _tokens(self) -> TokenServer:
        found = self.server.tokens  # type: ignore[attr-defined]
        assert isinstance(found, TokenServer)
        return found

    def _say(self, status: int, fields: dict[str, object]) -> None:
        data = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _raw_signature(der: bytes) -> bytes:
    """Return the two numbers of an ECDSA signature in DER, 32 bytes each."""
    at = 2
    raw = b""
    for _ in range(2):
        size = der[at + 1]
        raw += der[at + 2 : at + 2 + size].lstrip(b"\0").rjust(32, b"\0")
        at += 2 + size
    return raw
