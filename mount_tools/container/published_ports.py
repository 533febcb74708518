"""Ports that a container publishes: those of the host, since it has the network of the host.

Decided here and only here: which values of `--publish` are right.  What a program in a container
listens on is open on the host, with the same number.  So a port that is published as itself, on
all addresses, needs nothing to be done, and any other is refused.

Source: docker/go-connections `nat/nat.go:ParsePortSpec()`; docker `--publish`.
"""

from __future__ import annotations

import re

from layerstore.errors import StoreError, shown

_LARGEST = 65535
_RANGE = r"([0-9]{1,5})(?:-([0-9]{1,5}))?"
_SPEC = rf"(?:(?P<address>.*):)?(?P<host>{_RANGE})?:(?P<own>{_RANGE})(?:/(?P<protocol>[a-z]+))?"
_EVERYWHERE = ("0.0.0.0", "::", "[::]")


def check_published(text: str, *, network: bool) -> None:
    """Check `[ADDRESS:]PORT:PORT[/PROTOCOL]`, the value of a `--publish`; raises StoreError.

    `network` tells whether the container has the network of the host.
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
