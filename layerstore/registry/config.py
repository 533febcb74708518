"""The configuration of registries: where the repositories of a name are read and written.

podman's registries.conf counts if it exists, and docker's daemon.json if it does not.

This module alone decides which registries may be used without TLS: those on this machine,
as with docker, and those that the configuration calls insecure.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from layerstore.errors import InvalidReference, shown
from layerstore.oci.reference import Reference, parse_reference
from layerstore.registry.daemon_json import DaemonJson, read_daemon_json
from layerstore.registry.endpoints import Endpoint, host_of, name_of
from layerstore.registry.errors import BadConfiguration, Blocked
from layerstore.registry.locations import Locations
from layerstore.registry.reach import Network, named_network
from layerstore.registry.registries_conf import (
    PullFrom,
    RegistriesConf,
    RegistryEntry,
    read_registries_conf,
)
from unionfs.light_typing import NamedTuple


class Source(NamedTuple):
    """A file that says something about registries, and what it is."""

    path: str
    what: str


@dataclass(frozen=True)
class Configuration:
    """The configuration of this machine; empty by default."""

    conf: RegistriesConf = field(default_factory=RegistriesConf)
    daemon: DaemonJson = field(default_factory=DaemonJson)
    locations: Locations = field(default_factory=Locations.of_user)

    @classmethod
    def read(cls, locations: Locations | None = None) -> Configuration:
        """Read the files; raises BadConfiguration, which names the file and the fault."""
        where = locations or Locations.of_user()
        conf = read_registries_conf(where)
        daemon = DaemonJson() if conf.files else read_daemon_json(where)
        return cls(conf, daemon, where)

    def sources(self) -> list[Source]:
        """Return the files that were read, or that are read when they are needed."""
        found = [Source(str(path), "registries") for path in self.conf.files]
        if self.daemon.file is not None:
            found.append(Source(str(self.daemon.file), "registries"))
        elif self.conf.files:
            found += [
                Source(str(path), "not read, since there is a registries.conf")
                for path in self.locations.daemon_json()
                if os.path.exists(path)
            ]
        found += [
            Source(str(path), "certificates")
            for path in self.locations.certificates()
            if os.path.isdir(path)
        ]
        return found

    def resolve(self, text: str) -> Reference:
        """Return the reference in `text`; a short name that is an alias is replaced.

        Raises InvalidReference.
        """
        reference = parse_reference(text)
        short = text.partition("@")[0]
        name, colon, tag = short.rpartition(":")
        if not colon or "/" in tag:
            name = short
        target = self.conf.aliases.get(name)
        if not target:
            return reference
        try:
            return parse_reference(target)._replace(tag=reference.tag, digest=reference.digest)
        except InvalidReference:
            raise BadConfiguration(
                f'the short name "{shown(name)}" is an alias of an invalid name: {shown(target)}'
            ) from None

    def home(self, reference: Reference) -> Endpoint:
        """Return where the repository is read and written; raises Blocked."""
        entry, matched = self._entry(reference)
        if entry is None:
            domain = reference.domain
            return Endpoint(host_of(domain), reference.path, self.is_insecure(domain))
        if entry.blocked:
            raise Blocked(
                f"{reference.repository} is blocked by the entry {entry.prefix} in {entry.file}",
                reference.domain,
            )
        if not entry.location:
            return self._endpoint(reference.repository, "", entry.insecure)
        return self._endpoint(entry.location, reference.repository[matched:], entry.insecure)

    def mirrors(self, reference: Reference) -> list[Endpoint]:
        """Return where the image is read before its registry is asked, in this order."""
        entry, matched = self._entry(reference)
        if entry is None or entry.blocked:
            return []
        unwanted = PullFrom.DIGEST_ONLY if reference.digest is None else PullFrom.TAG_ONLY
        return [
            self._endpoint(mirror.location, reference.repository[matched:], mirror.insecure)
            for mirror in entry.mirrors
            if mirror.pull_from is not unwanted
        ]

    def is_insecure(self, host: str) -> bool:
        """Tell whether the host may be used without TLS, or with any certificate."""
        if named_network(name_of(host)) is Network.LOOPBACK:
            return True
        entries = [*self.conf.registries.values(), *self.daemon.entries().values()]
        return self.daemon.is_insecure(host) or any(entry.has_insecure(host) for entry in entries)

    def _entry(self, reference: Reference) -> tuple[RegistryEntry | None, int]:
        entries = self.conf.registries if self.conf.files else self.daemon.entries()
        name = str(reference)
        found = max(entries.values(), key=lambda entry: entry.matched(name), default=None)
        matched = found.matched(name) if found is not None else 0
        return (found, min(matched, len(reference.repository))) if matched else (None, 0)

    def _endpoint(self, location: str, rest: str, insecure: bool) -> Endpoint:
        domain, _, below = location.partition("/")
        name = (below + rest).strip("/") if below else rest.strip("/")
        return Endpoint(host_of(domain), name, insecure or self.is_insecure(domain))
