"""Lists that come in pages: tags, the catalog.

Source: distribution-spec "Listing tags"; RFC 5988 for `Link`.
"""

from __future__ import annotations

from collections.abc import Iterator

from layerstore.errors import InvalidImage
from layerstore.oci.json_values import Object, parse_document
from layerstore.registry.errors import BadAnswer
from layerstore.registry.headers import next_page
from layerstore.registry.host_client import Call, HostClient

MOST_PAGES = 1000  # of one list


def pages(client: HostClient, call: Call) -> Iterator[Object]:
    """Yield the objects of all pages of the list that `call` begins.

    Raises BadAnswer if a page is not a JSON object, if a page links to an earlier one, or
    if there are more than `MOST_PAGES` pages.
    """
    seen: set[str] = set()
    while True:
        document = client.read(call)
        seen.add(call.path)
        try:
            yield parse_document(document.data, "list")
        except InvalidImage as error:
            raise BadAnswer(
                f"{client.host} answers {call.what} wrongly: {error}", client.host
            ) from None
        link = next_page(document.headers.all("Link"))
        if link is None:
            return
        call = call._replace(path=client.located(document.url, link))
        if call.path in seen or len(seen) >= MOST_PAGES:
            raise BadAnswer(f"{client.host} sends pages in circles for {call.what}", client.host)
