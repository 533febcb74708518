"""registries.conf: the registries, mirrors and short names that podman is configured with.

The user's file replaces the machine's.  The files of `registries.conf.d` are read after
it in the order of their names; what they say about a prefix or a short name replaces
what was said before.  The older format, of three lists, is read too.

Source: containers-registries.conf(5), containers-registries.conf.d(5).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from layerstore.errors import shown
from layerstore.registry.errors import BadConfiguration
from layerstore.registry.locations import Locations, read_file

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?"
_LOCATION = re.compile(rf"{_HOST}(?:/[A-Za-z0-9._/-]+)?(?::[\w.-]+)?(?:@\w+:[0-9a-f]+)?")
_WILDCARD = re.compile(r"\*\.[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


class PullFrom(Enum):
    """Which pulls a mirror is for."""

    ALL = "all"
    DIGEST_ONLY = "digest-only"
    TAG_ONLY = "tag-only"


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror: `location` takes the place of the prefix."""

    location: str
    insecure: bool = False
    pull_from: PullFrom = PullFrom.ALL


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """The settings of all repositories below `prefix`; they come from `file`."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()
    file: Path = Path()

    def matched(self, name: str) -> int:
        """Return the length of the prefix if the image name begins with it, else 0."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0]
            bare = host.partition(":")[0]
            return len(bare) if bare.endswith(self.prefix[1:]) else 0
        if not name.startswith(self.prefix):
            return 0
        after = name[len(self.prefix) :]
        ends = ("/", ":", "@") if "/" in self.prefix else ("/",)
        return len(self.prefix) if not after or after.startswith(ends) else 0

    def has_insecure(self, host: str) -> bool:
        """Tell whether this calls `host`, a registry or a mirror, insecure."""
        if any(_host(mirror.location) == host for mirror in self.mirrors if mirror.insecure):
            return True
        return self.insecure and (
            _host(self.location) == host if self.location else bool(self.matched(host))
        )


@dataclass(frozen=True)
class RegistriesConf:
    """The merged content of the files; `files` are those that were read, in order."""

    registries: dict[str, RegistryEntry] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def read_registries_conf(locations: Locations) -> RegistriesConf:
    """Return what the files of `locations` say; raises BadConfiguration."""
    conf = RegistriesConf()
    for path in _files(locations):
        conf = _with(conf, path)
    # What podman's user has chosen from the short names that mean several images.
    if conf.files:
        conf = _with(conf, locations.aliases)
    return conf


def _files(locations: Locations) -> Iterator[Path]:
    own = locations.config / "containers"
    system = locations.etc / "containers"
    if locations.registries_conf is not None:
        yield locations.registries_conf
        return
    mine = own / "registries.conf"
    yield mine if os.path.exists(mine) else system / "registries.conf"
    for directory in (system, own):
        yield from sorted((directory / "registries.conf.d").glob("*.conf"))


def _with(conf: RegistriesConf, path: Path) -> RegistriesConf:
    try:
        data = read_file(path)
        if data is None:
            return conf
        table = tomllib.loads(data.decode())
    except (OSError, ValueError) as error:
        raise BadConfiguration(f"{path} cannot be read: {shown(str(error))}") from None
    reader = _Table(path, table)
    older = reader.table("registries")
    newer = {"registry", "unqualified-search-registries"} & table.keys()
    if older.fields and newer:
        raise BadConfiguration(f"{path} mixes the old and the new format of registries.conf")
    entries = dict(_old_entries(older)) if older.fields else _entries(reader)
    search = older.table("search").texts("registries") if older.fields else ()
    return replace(
        conf,
        registries={**conf.registries, **entries},
        aliases={**conf.aliases, **reader.table("aliases").all_texts()},
        search=reader.texts("unqualified-search-registries") or search or conf.search,
        helpers=reader.texts("credential-helpers") or conf.helpers,
        files=(*conf.files, path),
    )


def _entries(reader: _Table) -> dict[str, RegistryEntry]:
    found = {}
    for table in reader.tables("registry"):
        location, prefix = table.text("location"), table.text("prefix")
        prefix = prefix or location
        if not (_WILDCARD.fullmatch(prefix) or _LOCATION.fullmatch(prefix)):
            raise table.wrong("prefix", prefix)
        if not location and not prefix.startswith("*."):
            raise table.wrong("location", location)
        if location and not _LOCATION.fullmatch(location):
            raise table.wrong("location", location)
        by_digest = table.flag("mirror-by-digest-only")
        found[prefix] = RegistryEntry(
            prefix,
            location,
            table.flag("insecure"),
            table.flag("blocked"),
            tuple(_mirror(mirror, by_digest) for mirror in table.tables("mirror")),
            reader.path,
        )
    return found


def _host(location: str) -> str:
    return location.partition("/")[0]


def _mirror(table: _Table, by_digest: bool) -> Mirror:
    location = table.text("location")
    if not _LOCATION.fullmatch(location):
        raise table.wrong("location", location)
    said = table.text("pull-from-mirror")
    if by_digest:
        if said:
            raise BadConfiguration(
                f"{table.path} has both mirror-by-digest-only and pull-from-mirror for {location}"
            )
        return Mirror(location, table.flag("insecure"), PullFrom.DIGEST_ONLY)
    try:
        pull_from = PullFrom(said or "all")
    except ValueError:
        raise table.wrong("pull-from-mirror", said) from None
    return Mirror(location, table.flag("insecure"), pull_from)


def _old_entries(older: _Table) -> Iterator[tuple[str, RegistryEntry]]:
    insecure = set(older.table("insecure").texts("registries"))
    blocked = set(older.table("block").texts("registries"))
    for location in sorted(insecure | blocked):
        if not _LOCATION.fullmatch(location):
            raise older.wrong("registries", location)
        yield (
            location,
            RegistryEntry(
                location, location, location in insecure, location in blocked, (), older.path
            ),
        )


class _Table:
    """A table of a TOML file, whose fields are of the types that the format says."""

    def __init__(self, path: Path, fields: dict[str, object]) -> None:
        self.path = path
        self.fields = fields

    def wrong(self, name: str, value: object) -> BadConfiguration:
        return BadConfiguration(f'{self.path} has a wrong "{name}": {shown(repr(value))}')

    def text(self, name: str) -> str:
        value = self.fields.get(name, "")
        if not isinstance(value, str):
            raise self.wrong(name, value)
        return value.rstrip("/")

    def flag(self, name: str) -> bool:
        value = self.fields.get(name, False)
        if not isinstance(value, bool):
            raise self.wrong(name, value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.fields.get(name, [])
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.wrong(name, value)
        return tuple(value)

    def all_texts(self) -> dict[str, str]:
        return {name: self.text(name) for name in self.fields}

    def table(self, name: str) -> _Table:
        value = self.fields.get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name, value)
        return _Table(self.path, value)

    def tables(self, name: str) -> Iterator[_Table]:
        value = self.fields.get(name, [])
        if not isinstance(value, list):
            raise self.wrong(name, value)
        for entry in value:
            if not isinstance(entry, dict):
                raise self.wrong(name, entry)
            yield _Table(self.path, entry)
