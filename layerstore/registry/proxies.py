"""Proxies: which one, if any, the environment names for a host.

`HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in either case, as docker reads them: this
machine itself is never reached through a proxy.  `NO_PROXY` is a list of host names
(with all names below them), of names below a domain (".example.com"), of addresses and
networks, each with a port if only that one is meant, or "*".

Source: Go golang.org/x/net/http/httpproxy.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from layerstore.errors import shown
from layerstore.registry.errors import BadConfiguration

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; `authorization` is the value of its `Proxy-Authorization`, or ""."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


def proxy_for(
    scheme: str, host: str, port: int, environment: Mapping[str, str] | None = None
) -> Proxy | None:
    """Return the proxy for `host`; raises BadConfiguration for one that is not usable."""
    variables = os.environ if environment is None else environment
    name = f"{scheme}_proxy"
    text = variables.get(name.upper()) or variables.get(name) or ""
    if not text or _is_direct(
        host, port, variables.get("NO_PROXY") or variables.get("no_proxy") or ""
    ):
        return None
    return _parsed(name.upper(), text)


def proxy_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of the variables that are set; their values may hold a password."""
    variables = os.environ if environment is None else environment
    names = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return [name for pair in names for name in (pair, pair.lower()) if variables.get(name)]


def _parsed(variable: str, text: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or _PORTS["http"]
    except ValueError:
        raise BadConfiguration(f"{variable} is not the address of a proxy") from None
    if parts.scheme != "http" or not parts.hostname:
        raise BadConfiguration(
            f"{variable} names a proxy of the kind {shown(parts.scheme)}://; only http:// works"
        )
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(os.fsencode(pair)).decode()
    return Proxy(parts.hostname, port, authorization)


def _is_direct(host: str, port: int, no_proxy: str) -> bool:
    address = _address(host)
    if host == "localhost" or host.endswith(".localhost") or (address and address.is_loopback):
        return True
    return any(
        _matches(entry, host.lower().rstrip("."), address, port)
        for entry in (entry.strip().lower() for entry in no_proxy.split(","))
        if entry
    )


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _matches(entry: str, host: str, address: _Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            pass
    name, colon, only = entry.rpartition(":")
    if colon and only.isascii() and only.isdigit():
        if int(only) != port:
            return False
        entry = name.strip("[]")
    if address is not None:
        return _address(entry) == address
    below = entry.removeprefix("*").removeprefix(".")
    return host.endswith(f".{below}") or (host == below and entry == below)


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
