"""Where a registry may lead: never nearer to this machine than it is itself."""

from __future__ import annotations

import pytest

from layerstore.registry.errors import UnsafeRedirect
from layerstore.registry.reach import Network, Reach, named_network, network_of

PUBLIC, PRIVATE, LINK, HERE = "93.184.216.34", "10.1.2.3", "169.254.169.254", "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (PUBLIC, Network.PUBLIC),
        ("2606:4700::1111", Network.PUBLIC),
        (PRIVATE, Network.PRIVATE),
        ("172.31.0.1", Network.PRIVATE),
        ("192.168.1.1", Network.PRIVATE),
        ("100.64.0.1", Network.PRIVATE),
        ("fd00::1", Network.PRIVATE),
        (LINK, Network.LINK_LOCAL),
        ("fe80::1%eth0", Network.LINK_LOCAL),
        ("[fe80::1]", Network.LINK_LOCAL),
        (HERE, Network.LOOPBACK),
        ("::1", Network.LOOPBACK),
        ("0.0.0.0", Network.LOOPBACK),
        ("::", Network.LOOPBACK),
        ("::ffff:127.0.0.1", Network.LOOPBACK),
        ("::ffff:169.254.169.254", Network.LINK_LOCAL),
    ],
)
def test_network_of_an_address(address: str, network: Network) -> None:
    assert network_of(address) is network


def test_names_that_say_where_they_are() -> None:
    for name in ("localhost", "LOCALHOST.", "x.localhost", "127.1.1.1", "[::1]"):
        assert named_network(name) is Network.LOOPBACK
    for name in ("r.example", "localhost.example", "127.0.0.1.example", ""):
        assert named_network(name) is None


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (PUBLIC, {PUBLIC}),
        (PRIVATE, {PUBLIC, PRIVATE}),
        (LINK, {PUBLIC, PRIVATE, LINK}),
        (HERE, {PUBLIC, PRIVATE, HERE}),
    ],
)
def test_address_that_was_connected_to_decides(origin: str, allowed: set[str]) -> None:
    for target in (PUBLIC, PRIVATE, LINK, HERE):
        reach = Reach("r.example")
        reach.permitted("r.example", origin)
        if target in allowed:
            reach.permitted("other.example", target)
            reach.check_name(target, target)
        else:
            with pytest.raises(UnsafeRedirect, match=r"^r\.example leads to other\.example"):
                reach.permitted("other.example", target)
            with pytest.raises(UnsafeRedirect):
                reach.check_name(target, target)


def test_registry_that_was_not_reached_counts_as_public() -> None:
    with pytest.raises(UnsafeRedirect):
        Reach("r.example").permitted("other.example", HERE)
    Reach("localhost:5000").permitted("other.example", HERE)
    Reach("r.example").permitted("r.example", HERE)
