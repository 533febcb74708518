"""Authorization: how a registry's challenge is answered, Basic or Bearer.

A request carries no credentials before the registry has asked for them.  Tokens are kept
by their scopes and renewed before they expire.  A token that allows less than was asked
for is no error until the registry refuses it.

Source: distribution docs, spec/auth/{token,oauth}.md; RFC 6750 for `insufficient_scope`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import quote, urlencode, urlsplit

from layerstore.errors import shown
from layerstore.registry.challenge import Challenge, choose, parse_challenges
from layerstore.registry.credentials import Credentials, CredentialSource
from layerstore.registry.endpoints import login_command
from layerstore.registry.errors import BadAnswer, Unauthorized
from layerstore.registry.http_transport import Peer
from layerstore.registry.tokens import Token, merged, parse_token
from layerstore.registry.transport import Answer, HttpRequest, read_all

_CLIENT_ID = "pyunion"
_LARGEST = 1 << 20  # bytes of a token server's answer
_NO_OAUTH = (401, 404, 405)  # what token servers without POST answer

Send = Callable[[HttpRequest], Answer]


class Authenticator:
    """The authorization of requests to the registry `host`; used from many threads.

    `send` sends a request, with redirects and retries, to a token server.
    """

    def __init__(
        self,
        host: str,
        credentials: CredentialSource,
        send: Send,
        located: Callable[[str, str, bool], str],
    ) -> None:
        self._host = host
        self._source = credentials
        self._send = send
        self._located = located
        self._lock = threading.RLock()
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], Token] = {}
        # The scopes that a registry wants for a request, if they are more than the
        # request asks for.
        self._wanted: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._found: dict[str, Credentials | None] = {}

    def header(self, scopes: tuple[str, ...], path: str) -> str | None:
        """Return the `Authorization` of a request; None before the registry asked for one."""
        with self._lock:
            if self._challenge is None:
                return None
            wanted = self._wanted.get(merged(scopes), merged(scopes))
            return self._answered(self._challenge, wanted, path)

    def answer(
        self, refusal: Answer, scopes: tuple[str, ...], path: str, used: str | None
    ) -> tuple[str, tuple[str, ...]]:
        """Return the `Authorization`, and its scopes, to send after the answer 401 `refusal`.

        `used` is the `Authorization` of the refused request.  Raises Unauthorized if there
        is no other one to try.
        """
        challenges = parse_challenges(refusal.headers.all("WWW-Authenticate"))
        challenge = choose(challenges)
        if challenge is None:
            raise self._unauthorized(path, challenges)
        with self._lock:
            self._challenge = challenge
            own = merged(scopes)
            wanted = merged((*own, *challenge.parameters.get("scope", "").split()))
            self._wanted[own] = wanted
            token = self._tokens.get(wanted)
            if token is not None and used == f"Bearer {token.text}":
                del self._tokens[wanted]  # it was revoked, or its end was near
            header = self._answered(challenge, wanted, path)
        if header is None or (header == used and challenge.scheme == "basic"):
            raise self._unauthorized(path, challenges)
        return header, wanted

    def refused(self, path: str) -> Unauthorized:
        """Return the error for a request that is refused with every credential."""
        return self._unauthorized(path, [])

    def offline_token(self, credentials: Credentials) -> str:
        """Return the identity token that the token server gives for `credentials`, or "".

        Raises Unauthorized if it refuses them.
        """
        challenge = self._challenge
        if challenge is None or challenge.scheme != "bearer" or credentials.identity_token:
            return ""
        parameters = [("offline_token", "true"), ("client_id", _CLIENT_ID)]
        return self._get(challenge, (), credentials, parameters).refresh

    def _answered(self, challenge: Challenge, scopes: tuple[str, ...], path: str) -> str | None:
        if challenge.scheme == "basic":
            credentials = self._credentials(path)
            return credentials.basic if credentials and not credentials.identity_token else None
        now = time.monotonic()
        token = self._tokens.get(scopes)
        if token is None or not token.is_fresh(now):
            token = self._fetch(challenge, scopes, path)
            self._tokens[scopes] = token
        return f"Bearer {token.text}"

    def _credentials(self, path: str) -> Credentials | None:
        if path not in self._found:
            self._found[path] = self._source.find(self._host, path)
        return self._found[path]

    def _fetch(self, challenge: Challenge, scopes: tuple[str, ...], path: str) -> Token:
        credentials = self._credentials(path)
        if credentials is not None and credentials.identity_token:
            token = self._post(challenge, scopes, credentials)
            if token is not None:
                return token
            credentials = Credentials(credentials.username, credentials.identity_token)
        return self._get(challenge, scopes, credentials, [])

    def _get(
        self,
        challenge: Challenge,
        scopes: tuple[str, ...],
        credentials: Credentials | None,
        parameters: list[tuple[str, str]],
    ) -> Token:
        realm = self._realm(challenge, credentials)
        service = challenge.parameters.get("service")
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        if credentials is not None and credentials.username:
            query.append(("account", credentials.username))
        joint = "&" if urlsplit(realm).query else "?"
        text = urlencode([*query, *parameters], quote_via=quote, safe=":/,")
        headers = {"Accept": "application/json"}
        if credentials is not None:
            headers["Authorization"] = credentials.basic
        url = f"{realm}{joint}{text}" if text else realm
        status, data = self._asked(HttpRequest("GET", url, headers, limit=_LARGEST))
        if status != 200:
            raise self._not_given(realm, status, credentials)
        return parse_token(data, Peer.of(realm).name, time.monotonic())

    def _post(
        self, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials
    ) -> Token | None:
        """Exchange an identity token; return None if the server does not accept POST."""
        realm = self._realm(challenge, credentials)
        form = {
            "grant_type": "refresh_token",
            "service": challenge.parameters.get("service", ""),
            "client_id": _CLIENT_ID,
            "scope": " ".join(scopes),
            "refresh_token": credentials.identity_token,
        }
        body = urlencode({name: text for name, text in form.items() if text}).encode("ascii")
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        status, data = self._asked(HttpRequest("POST", realm, headers, (body,), _LARGEST))
        if status in _NO_OAUTH:
            return None
        if status != 200:
            raise self._not_given(realm, status, credentials)
        return parse_token(data, Peer.of(realm).name, time.monotonic())

    def _asked(self, request: HttpRequest) -> tuple[int, bytes]:
        answer = self._send(request)
        try:
            data = read_all(answer, _LARGEST)
        finally:
            answer.close()
        if data is None:
            host = Peer.of(request.url).name
            raise BadAnswer(f"the token server {host} answers with more than a token", host)
        return answer.status, data

    def _realm(self, challenge: Challenge, credentials: Credentials | None) -> str:
        """Return the address of the token server; raises UnsafeRedirect."""
        plain = credentials is None  # a token that anyone gets is no secret
        return self._located(f"https://{self._host}/", challenge.parameters["realm"], plain)

    def _not_given(
        self, realm: str, status: int, credentials: Credentials | None
    ) -> Unauthorized | BadAnswer:
        server = Peer.of(realm).name
        if status not in (400, 401, 403):
            return BadAnswer(
                f"the token server {server} of {self._host} answered {status} instead of a token",
                self._host,
            )
        if credentials is None:
            return self._unauthorized("", [])
        return Unauthorized(
            f"{server} refused the credentials for {self._host}: check them with "
            f"`{login_command(self._host)}`",
            self._host,
        )

    def _unauthorized(self, path: str, challenges: list[Challenge]) -> Unauthorized:
        what = f"{self._host}/{path}" if path else self._host
        if challenges and choose(challenges) is None:
            schemes = ", ".join(shown(challenge.scheme) for challenge in challenges)
            return Unauthorized(
                f"{what} wants an authorization that is not supported: {schemes}", self._host
            )
        if self._found.get(path) is not None:
            asked = f" for {what}" if path else ""
            return Unauthorized(
                f"{self._host} refused the credentials{asked}: they may be wrong, or the "
                f"account may not use it; `{login_command(self._host)}` replaces them",
                self._host,
            )
        return Unauthorized(
            f"{what} needs a login, or does not exist: `{login_command(self._host)}` first",
            self._host,
        )
