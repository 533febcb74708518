"""Ports that a container publishes: those of the host, since it has the network of the host.

Decided here and only here: which values of `--publish` are right, and how they are shown.  What a
program in a container listens on is open on the host, with the same number.  So a port that is
published as itself, on all addresses, needs nothing to be done, and any other is refused.

Source: docker/go-connections `nat/nat.go:ParsePortSpec()`; docker `--publish`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from layerstore.errors import StoreError, shown
from layerstore.oci.json_values import JSON, Object
from unionfs.light_typing import NamedTuple

_LARGEST = 65535
_RANGE = r"([0-9]{1,5})(?:-([0-9]{1,5}))?"
_SPEC = rf"(?:(?P<address>.*):)?(?P<host>{_RANGE})?:(?P<own>{_RANGE})(?:/(?P<protocol>[a-z]+))?"
_EVERYWHERE = ("0.0.0.0", "::", "[::]")
_BY_DEFAULT = ("0.0.0.0", "::")


class Published(NamedTuple):
    """Ports from `first` to `last` that are those of the host, on the addresses `addresses`.

    An empty one stands for all, as docker records it.
    """

    addresses: tuple[str, ...]
    first: int
    last: int
    protocol: str

    @property
    def text(self) -> str:
        """As `docker ps` shows it."""
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return ", ".join(
            f"{address}:{ports}->{ports}/{self.protocol}" for address in self.addresses
        )

    def has(self, first: int, last: int, protocol: str) -> bool:
        """Tell whether one of these ports is from `first` to `last`."""
        return self.protocol == protocol and first <= self.last and self.first <= last

    @property
    def bindings(self) -> dict[str, list[JSON]]:
        """As docker records it, by port and protocol."""
        return {
            f"{port}/{self.protocol}": [
                {"HostIp": address, "HostPort": str(port)} for address in self.addresses
            ]
            for port in range(self.first, self.last + 1)
        }


def parse_published(text: str, *, network: bool) -> Published:
    """Return what `[ADDRESS:]PORT:PORT[/PROTOCOL]` names, the value of a `--publish`.

    `network` tells whether the container has the network of the host.  Raises StoreError.
    """
    if not network:
        raise StoreError(f"--publish {shown(text)}: a container without a network has no ports")
    found = re.fullmatch(_SPEC, text)
    if found is None:
        if re.fullmatch(rf"{_RANGE}(?:/[a-z]+)?", text):
            port = text.partition("/")[0]
            raise StoreError(
                f"--publish {text}: no port of the host is chosen for it: port {port} of the "
                f"container is port {port} of the host, which --publish {port}:{port} says"
            )
        raise StoreError(f"Invalid containerPort: {shown(text)}: write PORT:PORT[/PROTOCOL]")
    numbers = [int(word) for word in re.findall(r"[0-9]+", found["own"])]
    if not 1 <= numbers[0] <= numbers[-1] <= _LARGEST:
        raise StoreError(f"Invalid containerPort: {shown(found['own'])}")
    if found["protocol"] not in (None, "tcp", "udp", "sctp"):
        raise StoreError(f"Invalid proto: {shown(found['protocol'])}")
    if found["address"] not in (None, *_EVERYWHERE):
        raise StoreError(
            f"--publish {shown(text)}: the container has the network of the host, so its program "
            f"decides on which address it listens; tell it {shown(found['address'])}"
        )
    if found["host"] != found["own"]:
        raise StoreError(
            f"--publish {shown(text)}: the container has the network of the host, so port "
            f"{found['own']} of it is port {found['own']} of the host; tell its program another"
        )
    address = found["address"]
    addresses = (address.strip("[]") if address else "",)
    return Published(addresses, numbers[0], numbers[-1], found["protocol"] or "tcp")


def port_range(text: str) -> tuple[int, int, str]:
    """Return the first and the last port and the protocol of `PORT[-PORT][/PROTOCOL]`.

    Raises StoreError.  Source: moby `daemon/list.go:portOp()`.
    """
    found = re.fullmatch(rf"{_RANGE}(?:/([a-z]+))?", text)
    if found is None:
        raise StoreError(f"Invalid filter 'publish={shown(text)}': write PORT[-PORT][/PROTOCOL]")
    return int(found[1]), int(found[2] or found[1]), found[3] or "tcp"


def bindings_of(texts: Iterable[str], *, network: bool) -> Object:
    """Return the values of all `--publish` as docker's PortBindings; raises StoreError."""
    found: dict[str, list[JSON]] = {}
    for text in texts:
        for port, places in parse_published(text, network=network).bindings.items():
            known = found.setdefault(port, [])
            known += [place for place in places if place not in known]
    return {**found}


def published_in(bindings: Object) -> list[Published]:
    """Return the ports of `bindings`, as `Published.bindings` gives them, in docker's order.

    Each address is named.  Ports that follow each other are one.
    """
    found: list[Published] = []
    for port, protocol, addresses in sorted(_recorded(bindings)):
        last = found[-1] if found else None
        if last is not None and last[0::3] == (addresses, protocol) and last.last + 1 == port:
            found[-1] = last._replace(last=port)
        else:
            found.append(Published(addresses, port, port, protocol))
    return found


def _recorded(bindings: Object) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    for key, places in bindings.items():
        port, _, protocol = key.partition("/")
        of_each = (
            [one for one in places if isinstance(one, dict)] if isinstance(places, list) else []
        )
        if port.isdecimal() and of_each:
            given = [str(one.get("HostIp") or "") for one in of_each]
            named = [one for address in given for one in ((address,) if address else _BY_DEFAULT)]
            yield int(port), protocol, tuple(dict.fromkeys(named))
