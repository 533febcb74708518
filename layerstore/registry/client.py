"""The client: hosts with registries, as the configuration of this machine says.

    from layerstore import parse_reference
    from layerstore.registry import Client

    with Client() as client:
        repository = client.repository(parse_reference("debian:12"))
        manifest = repository.get_manifest("12")
        print(manifest.media_type, repository.tags())

A client is used from many threads; `cancel` ends what they do.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache, partial

from layerstore.oci.reference import DEFAULT_DOMAIN, Reference
from layerstore.registry.catalog import Registry
from layerstore.registry.certificates import context_for
from layerstore.registry.config import Configuration, Source
from layerstore.registry.credential_files import CredentialFiles
from layerstore.registry.credentials import Credentials, CredentialSource, OneLogin
from layerstore.registry.endpoints import SEARCH_HOST, Endpoint, host_of
from layerstore.registry.exchange import Exchange
from layerstore.registry.host_client import HostClient
from layerstore.registry.http_transport import HttpTransport
from layerstore.registry.proxies import proxy_variables
from layerstore.registry.reach import Reach
from layerstore.registry.repository import Repository, Site
from layerstore.registry.retries import Retries
from layerstore.registry.transport import Stop, Timeouts
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class Client:
    """Talks to registries; the caller closes it.

    Without `configuration` and `credentials`, those of this machine and its user are read
    when they are needed.  `warn` is called with messages for the user: the warnings of a
    registry, and that few pulls are left.
    """

    def __init__(
        self,
        *,
        configuration: Configuration | None = None,
        credentials: CredentialSource | None = None,
        warn: Callable[[str], None] | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._configuration = configuration
        self._credentials = credentials
        self._warn = warn
        self._timeouts = timeouts
        self._retries = retries
        self._stop = Stop()
        self._hosts: dict[tuple[str, bool], HostClient] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            hosts, self._hosts = self._hosts, {}
        for client in hosts.values():
            client.close()

    def cancel(self) -> None:
        """Make all current and later requests, in any thread, raise Cancelled."""
        self._stop.set()

    def repository(self, reference: Reference) -> Repository:
        """Return the repository of `reference`; raises Blocked."""
        home = self._site(self.configuration.home(reference))
        mirrors = self.configuration.mirrors(reference)
        return Repository(
            reference.repository, home, [partial(self._site, mirror) for mirror in mirrors]
        )

    def registry(self, domain: str) -> Registry:
        """Return the registry `domain`, as "docker.io" or "host:port"; raises Blocked."""
        endpoint = self.configuration.home(Reference(f"{domain}/"))
        client = self._client(endpoint.host, endpoint.insecure)
        is_hub = endpoint.host == host_of(DEFAULT_DOMAIN)
        searched = self._client(SEARCH_HOST, insecure=False) if is_hub else client
        return Registry(domain, client, searched)

    def login(self, domain: str, credentials: Credentials) -> Credentials:
        """Try the credentials at the registry `domain`, and return what to store.

        That is an identity token if the registry gives one.  Raises Unauthorized.
        """
        endpoint = self.configuration.home(Reference(f"{domain}/"))
        client = self._opened(endpoint.host, endpoint.insecure, OneLogin(credentials))
        with closing(client):
            return client.login(credentials)

    @property
    def configuration(self) -> Configuration:
        """The configuration of this machine; raises BadConfiguration when it is read."""
        with self._lock:
            if self._configuration is None:
                self._configuration = Configuration.read()
            return self._configuration

    @property
    def credentials(self) -> CredentialSource:
        """The credentials of this user."""
        files = self.credential_files
        with self._lock:
            if self._credentials is None:
                self._credentials = files
            return self._credentials

    @property
    def credential_files(self) -> CredentialFiles:
        """The files of this user, where a login is stored and a logout erases it."""
        configuration = self.configuration
        return CredentialFiles(configuration.locations, configuration.conf.helpers)

    def sources(self) -> list[Source]:
        """Return the files and the names of the variables that configure registries."""
        found = self.configuration.sources()
        found += [Source(str(path), "credentials") for path in self.credential_files.files()]
        return found + [Source(f"${name}", "proxy") for name in proxy_variables()]

    def _site(self, endpoint: Endpoint) -> Site:
        return Site(self._client(endpoint.host, endpoint.insecure), endpoint.name)

    def _client(self, host: str, insecure: bool) -> HostClient:
        credentials = self.credentials
        with self._lock:
            found = self._hosts.get((host, insecure))
        if found is None:
            opened = self._opened(host, insecure, credentials)
            with self._lock:
                found = self._hosts.setdefault((host, insecure), opened)
        return found

    def _opened(self, host: str, insecure: bool, credentials: CredentialSource) -> HostClient:
        configuration = self.configuration
        reach = Reach(host)

        def is_insecure(name: str) -> bool:
            return (insecure and name == host) or configuration.is_insecure(name)

        def tls(name: str) -> ssl.SSLContext:
            typed = host if host == f"{name}:443" else name
            return context_for(typed, configuration.locations.certificates(), is_insecure(typed))

        transport = HttpTransport(
            lru_cache(tls), stop=self._stop, timeouts=self._timeouts, permitted=reach.permitted
        )
        exchange = Exchange(host, transport, reach, is_insecure)
        return HostClient(
            exchange, credentials, stop=self._stop, retries=self._retries, warn=self._warn
        )
