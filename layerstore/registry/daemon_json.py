"""docker's daemon.json: the mirrors of Docker Hub, and the registries without TLS.

Source: docker's docs, "dockerd", `registry-mirrors` and `insecure-registries`.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from layerstore.errors import InvalidImage, shown
from layerstore.oci.json_values import Object, parse_document
from layerstore.oci.reference import DEFAULT_DOMAIN
from layerstore.registry.endpoints import name_of
from layerstore.registry.errors import BadConfiguration
from layerstore.registry.locations import Locations, read_file
from layerstore.registry.registries_conf import Mirror, RegistryEntry

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class DaemonJson:
    """The content of the file at `file`; empty if `file` is None."""

    mirrors: tuple[Mirror, ...] = ()
    insecure: tuple[str, ...] = ()
    networks: tuple[_Network, ...] = ()
    file: Path | None = None

    def entries(self) -> dict[str, RegistryEntry]:
        """Return the entries in the form of registries.conf, without the networks."""
        found = {
            host: RegistryEntry(host, host, insecure=True, file=self.file or Path())
            for host in self.insecure
        }
        if self.mirrors:
            found[DEFAULT_DOMAIN] = RegistryEntry(
                DEFAULT_DOMAIN, DEFAULT_DOMAIN, mirrors=self.mirrors, file=self.file or Path()
            )
        return found

    def is_insecure(self, host: str) -> bool:
        """Tell whether an address of the host "name:port" is in one of the networks."""
        if not self.networks:
            return False
        try:
            found = socket.getaddrinfo(name_of(host).strip("[]"), None, type=socket.SOCK_STREAM)
        except OSError:
            return False
        addresses = {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}
        return any(address in network for address in addresses for network in self.networks)


def read_daemon_json(locations: Locations) -> DaemonJson:
    """Return what the first of docker's files says; raises BadConfiguration."""
    for path in locations.daemon_json():
        try:
            data = read_file(path)
            if data is not None:
                return _parsed(path, parse_document(data, "configuration"))
        except PermissionError:
            continue  # this user may not read it
        except (OSError, InvalidImage) as error:
            raise BadConfiguration(f"{path} cannot be read: {shown(str(error))}") from None
    return DaemonJson()


def _parsed(path: Path, fields: Object) -> DaemonJson:
    insecure: list[str] = []
    networks: list[_Network] = []
    for text in _texts(path, fields, "insecure-registries"):
        if "/" in text:
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
                continue
            except ValueError:
                text = text.partition("://")[2].rstrip("/") or text
        insecure.append(text)
    mirrors = tuple(_mirror(path, text) for text in _texts(path, fields, "registry-mirrors"))
    return DaemonJson(mirrors, tuple(insecure), tuple(networks), path)


def _mirror(path: Path, text: str) -> Mirror:
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
    except ValueError:
        parts = urlsplit("")  # a bracket that is not closed, for example
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise BadConfiguration(f"{path} has a wrong mirror: {shown(text)} is not https://HOST")
    return Mirror(parts.netloc, insecure=parts.scheme == "http")


def _texts(path: Path, fields: Object, name: str) -> list[str]:
    value = fields.get(name) or []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise BadConfiguration(f'{path} has a wrong "{name}": it is not a list of texts')
    return [str(text) for text in value]
