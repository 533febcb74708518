"""A registry as a whole: whether it answers, and what it lists."""

from __future__ import annotations

from collections.abc import Iterator

from layerstore.registry.errors import BadAnswer
from layerstore.registry.pages import pages
from layerstore.registry.session import Call, Session
from layerstore.registry.tokens import CATALOG


class Registry:
    """The registry `domain`."""

    def __init__(self, domain: str, session: Session) -> None:
        self.domain = domain
        self._session = session

    @property
    def host(self) -> str:
        """The host that answers for it."""
        return self._session.host

    def ping(self) -> None:
        """Ask whether the protocol is spoken, and the credentials are good.

        Raises Unauthorized, Unreachable's kinds or Missing.
        """
        self._session.read(Call("GET", "/v2/", "the protocol of registries"))

    def catalog(self, page: int = 1000) -> Iterator[str]:
        """Yield the names of all repositories, in pages of up to `page` of them.

        Many registries have no catalog, or not for everyone: raises Missing, Denied,
        Unauthorized or Refused then.
        """
        call = Call("GET", f"/v2/_catalog?n={page}", "the catalog", (CATALOG,))
        for found in pages(self._session, call):
            listed = found.get("repositories")
            if listed is not None and not isinstance(listed, list):
                raise BadAnswer(f"{self.host} lists its repositories wrongly", self.host)
            yield from (name for name in listed or () if isinstance(name, str))
