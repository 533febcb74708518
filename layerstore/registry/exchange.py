"""One request with its redirects: which are followed, and what is sent to the new address.

The transport below follows none.  Credentials are sent only to the host that they are for;
a body is sent again only after the codes that ask for it (307, 308).

Source: RFC 9110 section 15.4; distribution-spec "Pulling blobs".
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urljoin

from layerstore.errors import shown
from layerstore.registry.errors import BadAnswer, UnsafeRedirect
from layerstore.registry.http_transport import Peer
from layerstore.registry.reach import Reach
from layerstore.registry.transport import Answer, HttpRequest, Transport

_LONGEST = 10  # redirects of one request
_KEEP_METHOD = (307, 308)
_REDIRECTS = (301, 302, 303, *_KEEP_METHOD)
_SECRET = "Authorization"


class Exchange:
    """Sends requests for the registry `host`, and follows where it leads.

    `is_insecure` tells whether plain HTTP is allowed for a host.
    """

    def __init__(
        self, host: str, transport: Transport, reach: Reach, is_insecure: Callable[[str], bool]
    ) -> None:
        self.host = host
        self.is_insecure = is_insecure
        self._transport = transport
        self._reach = reach

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def send(self, request: HttpRequest) -> Answer:
        """Return the answer at the end of the redirects; the caller closes it."""
        seen = {request.url}
        while True:
            answer = self._transport.send(request)
            if answer.status not in _REDIRECTS or answer.headers.get("Location") is None:
                return answer
            if request.method not in ("GET", "HEAD") and answer.status not in _KEEP_METHOD:
                return answer
            answer.close()
            request = self._led(request, answer)
            if request.url in seen or len(seen) > _LONGEST:
                raise BadAnswer(
                    f"{self.host} redirects in circles, or too often, at {shown(seen.pop())}",
                    self.host,
                )
            seen.add(request.url)

    def located(self, url: str, location: str, plain: bool = False) -> str:
        """Return the absolute address of `location` in an answer from `url`.

        With `plain`, plain HTTP is allowed even if `url` is https.  Raises UnsafeRedirect or
        BadAnswer if this registry may not redirect there.
        """
        try:
            target = urljoin(url, location.strip()).partition("#")[0]
        except ValueError:
            target = location
        if not target.lower().startswith(("http://", "https://")):
            raise UnsafeRedirect(
                f"{self.host} leads to {shown(target)}, which is no address of HTTP", self.host
            )
        here, there = Peer.of(url), Peer.of(target)
        self._reach.check_name(there.name, there.host)
        down = here.scheme == "https" and there.scheme == "http" and not plain
        if down and not self.is_insecure(there.name):
            raise UnsafeRedirect(
                f"{self.host} leads from TLS to plain HTTP at {there.name}: configure "
                f"{there.name} as insecure if that is meant",
                self.host,
                advice="",
            )
        return target

    def _led(self, request: HttpRequest, answer: Answer) -> HttpRequest:
        url = self.located(request.url, answer.headers.get("Location") or "")
        headers = request.headers
        if Peer.of(url) != Peer.of(request.url):
            headers = {name: text for name, text in headers.items() if name != _SECRET}
        return request._replace(url=url, headers=headers)
