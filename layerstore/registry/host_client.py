"""One registry at one host: requests with authorization, redirects and retries.

It is shared by everything that talks to the host and is used from many threads.

This module alone decides whether the connection uses TLS.  It does, unless the host is this
machine or is configured as insecure, and does not answer in TLS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus

from layerstore.errors import shown
from layerstore.registry.answers import failure
from layerstore.registry.auth import Authenticator
from layerstore.registry.credentials import Credentials, CredentialSource
from layerstore.registry.errors import (
    Interrupted,
    Missing,
    NoConnection,
    RegistryError,
    TlsFailed,
    TooLarge,
    Unreachable,
    UploadLost,
)
from layerstore.registry.exchange import Exchange
from layerstore.registry.headers import Headers, pulls_left, warnings
from layerstore.registry.retries import Notice, Retries
from layerstore.registry.transport import Answer, Body, HttpRequest, Stop, read_all
from unionfs.light_typing import NamedTuple

JSON_LIMIT = 8 << 20  # bytes of an answer that is not a blob
_FEW_PULLS = 10
_TRIES_OF_AUTHORIZATION = 3
_USER_AGENT = "pyunion (layerstore.registry)"


class Call(NamedTuple):
    """One request of the protocol.

    `path` is a path at the host, or an address that the registry gave.  `what` names the
    requested thing in an error, and `missing` is the class of the error for an answer 404.
    `image` is the name of the requested image, if the request is for one.
    """

    method: str
    path: str
    what: str
    scopes: tuple[str, ...] = ()
    repository: str = ""
    headers: Mapping[str, str] = {}
    body: Body | None = None
    limit: int | None = JSON_LIMIT
    missing: type[Missing | UploadLost] = Missing
    expected: tuple[int, ...] = (200,)
    image: str = ""


class Reply(NamedTuple):
    """An answer with its whole body."""

    status: int
    headers: Headers
    data: bytes
    url: str


class HostClient:
    """The registry at `host`, which may be "host:port"."""

    def __init__(
        self,
        exchange: Exchange,
        credentials: CredentialSource,
        *,
        stop: Stop | None = None,
        retries: Retries | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.host = host = exchange.host
        self.stop = stop or Stop()
        self.retries = retries or Retries()
        self._warn = warn
        self._warned: set[str] = set()
        self._exchange = exchange
        self._auth = Authenticator(host, credentials, self._sent_again, self._exchange.located)
        self._lock = threading.Lock()
        self._base: str | None = None
        self._answered = False

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def open(self, call: Call, notice: Notice | None = None) -> Answer:
        """Return the answer to `call`, with one of its `expected` codes; the caller closes it.

        Raises a subclass of RegistryError.  A failure that may be temporary is tried again;
        `notice` is called before each wait.
        """
        failed = 0
        while True:
            self.stop.check()
            try:
                return self.open_once(call)
            except RegistryError as error:
                failed += 1
                self.pause(failed, error, notice)

    def pause(self, failed: int, error: RegistryError, notice: Notice | None = None) -> None:
        """Wait after the `failed`th failure, or raise `error` if no try is left."""
        seconds = self.retries.wait(failed, error, answered=self._answered)
        if seconds is None:
            raise error
        if notice is not None:
            notice(seconds, error)
        self.stop.wait(seconds)

    def open_once(self, call: Call) -> Answer:
        """As `open`, but try only once."""
        answer = self._authorized(call)
        self._answered = True
        self._look(answer.headers)
        if answer.status in call.expected:
            return answer
        try:
            raise failure(answer, self.host, call.what, call.missing, call.image)
        finally:
            answer.close()

    def read(self, call: Call, notice: Notice | None = None) -> Reply:
        """Return the whole answer to `call`; tries again if the connection breaks.

        Raises TooLarge for more than `call.limit` bytes.
        """
        failed = 0
        limit = JSON_LIMIT if call.limit is None else call.limit
        while True:
            answer = self.open(call, notice)
            try:
                data = read_all(answer, limit)
            except Unreachable as error:
                failed += 1
                self.pause(failed, error, notice)
                continue
            finally:
                answer.close()
            if data is None:
                raise TooLarge(
                    f"{self.host} sent more than {limit >> 10} KiB for {call.what}", self.host
                )
            return Reply(answer.status, answer.headers, data, answer.url)

    def login(self, credentials: Credentials) -> Credentials:
        """Try the credentials, which are those of this client; return what to store.

        Raises Unauthorized if they are refused.
        """
        self.read(Call("GET", "/v2/", "the protocol of registries", missing=Missing))
        token = self._auth.offline_token(credentials)
        if token:
            return Credentials(credentials.username, identity_token=token)
        return credentials

    def located(self, url: str, location: str) -> str:
        """Return the absolute address of `location` in an answer from `url`."""
        return self._exchange.located(url, location)

    def base(self) -> str:
        """Return "https://host" or "http://host"; the first call finds out which one answers."""
        with self._lock:
            if self._base is None:
                self._base = self._found_base()
            return self._base

    def _found_base(self) -> str:
        secure = f"https://{self.host}"
        if not self._exchange.is_insecure(self.host):
            return secure
        try:
            self._exchange.send(self._ping(secure)).close()
            return secure
        except TlsFailed:
            raise
        except (NoConnection, Interrupted) as error:
            plain = f"http://{self.host}"
            answer = self._exchange.send(self._ping(plain))
            answer.close()
            if answer.status == HTTPStatus.BAD_REQUEST:
                raise error from None  # a TLS server gave the answer in plain HTTP
            return plain

    def _ping(self, base: str) -> HttpRequest:
        return HttpRequest("GET", f"{base}/v2/", {"User-Agent": _USER_AGENT}, limit=JSON_LIMIT)

    def _authorized(self, call: Call) -> Answer:
        url = call.path if "://" in call.path else self.base() + call.path
        ours = url.startswith(f"{self.base()}/")
        headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **call.headers}
        scopes = call.scopes
        authorization = self._auth.header(scopes, call.repository) if ours else None
        for _ in range(_TRIES_OF_AUTHORIZATION):
            if authorization is not None:
                headers["Authorization"] = authorization
            request = HttpRequest(call.method, url, headers, call.body, call.limit)
            answer = self._exchange.send(request)
            at_home = ours and answer.url.startswith(f"{self.base()}/")
            if answer.status != HTTPStatus.UNAUTHORIZED or not at_home:
                return answer
            answer.close()
            authorization, scopes = self._auth.answer(
                answer, scopes, call.repository, authorization
            )
        raise self._auth.refused(call.repository)

    def _sent_again(self, request: HttpRequest) -> Answer:
        """Send a request to a token server."""
        request = request._replace(headers={"User-Agent": _USER_AGENT, **request.headers})
        failed = 0
        while True:
            self.stop.check()
            try:
                answer = self._exchange.send(request)
                if answer.status < 500 and answer.status != HTTPStatus.TOO_MANY_REQUESTS:
                    return answer
                try:
                    raise failure(answer, self.host, "a token")
                finally:
                    answer.close()
            except RegistryError as error:
                failed += 1
                self.pause(failed, error)

    def _look(self, headers: Headers) -> None:
        """Pass on each warning of the registry once."""
        if self._warn is None:
            return
        for text in warnings(headers.all("Warning")):
            self._say(f"{self.host}: {shown(text)}", text)
        left = pulls_left(headers.get("RateLimit-Remaining"))
        if left is not None and left <= _FEW_PULLS:
            self._say(f"{self.host}: {left} pulls are left before its limit is reached", "pulls")

    def _say(self, text: str, kind: str) -> None:
        with self._lock:
            if kind in self._warned or self._warn is None:
                return
            self._warned.add(kind)
        self._warn(text)
