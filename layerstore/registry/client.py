"""The client: sessions with registries, as the configuration of this machine says.

    with Client() as client:
        repository = client.repository(parse_reference("debian:12"))
        manifest = repository.get_manifest("12")

A client is used from many threads; `cancel` ends what they do.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from layerstore.oci.reference import Reference
from layerstore.registry.catalog import Registry
from layerstore.registry.credentials import CredentialSource, NoCredentials
from layerstore.registry.endpoints import Endpoint, host_of
from layerstore.registry.http_transport import HttpTransport
from layerstore.registry.reach import Network, Reach, named_network
from layerstore.registry.repository import Place, Repository
from layerstore.registry.retries import Retries
from layerstore.registry.session import Session
from layerstore.registry.transport import Stop, Timeouts


class Client:
    """Talks to registries; the caller closes it.

    `warn` is called with what the user should know: what a registry warns of, and
    that few pulls are left.
    """

    def __init__(
        self,
        *,
        credentials: CredentialSource | None = None,
        warn: Callable[[str], None] | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._credentials = credentials or NoCredentials()
        self._warn = warn
        self._timeouts = timeouts
        self._retries = retries
        self._stop = Stop()
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            session.close()

    def cancel(self) -> None:
        """Make everything that runs, in any thread, raise Cancelled; for good."""
        self._stop.set()

    def repository(self, reference: Reference) -> Repository:
        """Return the repository of `reference`; raises Blocked."""
        endpoint = Endpoint(host_of(reference.domain), reference.path)
        home = Place(self._session(endpoint.host), endpoint.name)
        return Repository(reference.repository, home)

    def registry(self, domain: str) -> Registry:
        """Return the registry `domain`, as "docker.io" or "host:port"; raises Blocked."""
        return Registry(domain, self._session(host_of(domain)))

    def _session(self, host: str) -> Session:
        with self._lock:
            found = self._sessions.get(host)
            if found is None:
                found = self._sessions[host] = self._opened(host)
            return found

    def _opened(self, host: str) -> Session:
        reach = Reach(host)
        transport = HttpTransport(
            self._tls, stop=self._stop, timeouts=self._timeouts, permitted=reach.permitted
        )
        return Session(
            host,
            transport,
            credentials=self._credentials,
            is_insecure=_is_here,
            reach=reach,
            stop=self._stop,
            retries=self._retries,
            warn=self._warn,
        )

    def _tls(self, host: str) -> ssl.SSLContext:
        return ssl.create_default_context()


def _is_here(host: str) -> bool:
    return named_network(host.rpartition(":")[0] or host) is Network.LOOPBACK
