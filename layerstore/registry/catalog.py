"""A registry as a whole: whether it answers, and what it lists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote, urlencode

from layerstore.errors import InvalidImage, shown
from layerstore.oci.json_values import Object, parse_document, text_of
from layerstore.registry.errors import BadAnswer
from layerstore.registry.host_client import Call, HostClient
from layerstore.registry.pages import pages
from layerstore.registry.tokens import CATALOG
from unionfs.light_typing import NamedTuple

_SEARCH_LIMIT = 100  # results that are asked for at most, as docker does


class Found(NamedTuple):
    """A repository that a search found, as version 1 of the protocol describes it."""

    name: str
    description: str = ""
    stars: int = 0
    is_official: bool = False
    is_automated: bool = False


class Registry:
    """The registry `domain`; `searched` is the host of its search, by default the same."""

    def __init__(self, domain: str, client: HostClient, searched: HostClient | None = None) -> None:
        self.domain = domain
        self._client = client
        self._searched = searched or client

    @property
    def host(self) -> str:
        """The host that answers for it."""
        return self._client.host

    def ping(self) -> None:
        """Check that the host speaks the protocol and accepts the credentials.

        Raises Unauthorized, a subclass of Unreachable, or Missing.
        """
        self._client.read(Call("GET", "/v2/", "the protocol of registries"))

    def search(self, term: str, limit: int = 25) -> list[Found]:
        """Return the repositories that fit `term`, the best first, up to `limit` of them.

        This uses version 1 of the protocol, as docker and Docker Hub do for searches.
        Raises Missing if the registry has no search; it may still have a `catalog`.
        """
        client = self._searched
        query = urlencode(
            {"q": os.fsencode(term), "n": min(max(limit, 1), _SEARCH_LIMIT)}, quote_via=quote
        )
        call = Call("GET", f"/v1/search?{query}", f'the search for "{shown(term)}"')
        document = client.read(call)
        try:
            listed = parse_document(document.data, "result").get("results")
            if listed is not None and not isinstance(listed, list):
                raise InvalidImage("its results are no list")
            entries = [entry for entry in listed or () if isinstance(entry, dict)]
            return [_found(entry) for entry in entries if text_of(entry, "name")][:limit]
        except InvalidImage as error:
            raise BadAnswer(
                f"{client.host} answers the search wrongly: {error}", client.host
            ) from None

    def catalog(self, page: int = 1000) -> Iterator[str]:
        """Yield the names of all repositories, in pages of up to `page` of them.

        Many registries have no catalog, or allow it to some accounts only.  Raises Missing,
        Denied, Unauthorized or Refused then.
        """
        call = Call("GET", f"/v2/_catalog?n={page}", "the catalog", (CATALOG,))
        for found in pages(self._client, call):
            listed = found.get("repositories")
            if listed is not None and not isinstance(listed, list):
                raise BadAnswer(f"{self.host} lists its repositories wrongly", self.host)
            yield from (name for name in listed or () if isinstance(name, str))


def _found(entry: Object) -> Found:
    stars = entry.get("star_count")
    return Found(
        text_of(entry, "name"),
        text_of(entry, "description"),
        stars if isinstance(stars, int) else 0,
        entry.get("is_official") is True,
        entry.get("is_automated") is True,
    )
