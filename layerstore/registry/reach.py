"""The addresses a registry may send its client to: the rules for redirects and token servers.

A registry chooses the address of a redirect, of an upload and of its token server.  So a
registry on the internet could make this machine send requests into the machine's private
network, to its own loopback services, or to the metadata service of a cloud.  A registry
may lead to the internet and to its own kind of network, but never to a nearer one.  The
address of the connection decides, not the name, because each lookup of a name may give
another address.

Source: RFC 1918, 3927, 4193; CWE-918.
"""

from __future__ import annotations

import enum
import ipaddress

from layerstore.registry.endpoints import name_of
from layerstore.registry.errors import UnsafeRedirect


class Network(enum.Enum):
    """The kind of network of an address."""

    PUBLIC = "the internet"
    PRIVATE = "a private network"
    LINK_LOCAL = "the local link"
    LOOPBACK = "this machine"


_REACHED = {
    Network.PUBLIC: {Network.PUBLIC},
    Network.PRIVATE: {Network.PUBLIC, Network.PRIVATE},
    Network.LINK_LOCAL: {Network.PUBLIC, Network.PRIVATE, Network.LINK_LOCAL},
    Network.LOOPBACK: {Network.PUBLIC, Network.PRIVATE, Network.LOOPBACK},
}


def network_of(address: str) -> Network:
    """Return the kind of network of an IP address; raises ValueError for something else."""
    found = ipaddress.ip_address(address.partition("%")[0].strip("[]"))
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_loopback or found.is_unspecified:
        return Network.LOOPBACK
    if found.is_link_local:
        return Network.LINK_LOCAL
    # Also 100.64.0.0/10 and the reserved ranges: no host on the internet has these.
    return Network.PUBLIC if found.is_global else Network.PRIVATE


def named_network(host: str) -> Network | None:
    """Return the kind of network if the name `host` alone shows it, else None."""
    try:
        return network_of(host)
    except ValueError:
        bare = host.rstrip(".").lower()
        is_here = bare == "localhost" or bare.endswith(".localhost")
        return Network.LOOPBACK if is_here else None


class Reach:
    """The addresses that the registry at `host` may lead to."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._network: Network | None = None

    def permitted(self, name: str, address: str) -> None:
        """Note or check the address of a connection to `name`; raises UnsafeRedirect."""
        network = network_of(address)
        if name == self._host:
            self._network = network
        else:
            self._check(name, network)

    def check_name(self, name: str, host: str) -> None:
        """Check a `host` that is an IP address, before a proxy connects to it."""
        network = named_network(host)
        if network is not None and name != self._host:
            self._check(name, network)

    def _check(self, name: str, network: Network) -> None:
        origin = self._network or named_network(name_of(self._host)) or Network.PUBLIC
        if network not in _REACHED[origin]:
            raise UnsafeRedirect(
                f"{self._host} leads to {name}, which is on {network.value}: a registry on "
                f"{origin.value} may not do that",
                self._host,
            )
