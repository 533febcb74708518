"""The files with credentials, shared with docker and podman: read and written as they do.

The keys of the entries differ: podman writes namespaces ("host/team"), docker writes hosts,
in older files with a scheme and a path; Docker Hub is "https://index.docker.io/v1/" in
docker's files.

A file is replaced as a whole and is never readable for other users.  Its other fields
stay as they were.

Source: containers-auth.json(5); docker/cli `cli/config/configfile`.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from layerstore.db.beside import new_file
from layerstore.db.durability import open_directory
from layerstore.errors import InvalidImage, shown
from layerstore.oci.json_values import Object, object_of, parse_document, text_of
from layerstore.registry.credentials import Credentials
from layerstore.registry.errors import BadConfiguration
from layerstore.registry.locations import Locations, read_file
from unionfs.syscalls.copyfile import write_at

HUB = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")


class Unreadable(BadConfiguration):
    """This user may not read a file."""


@dataclass(frozen=True)
class AuthFile:
    """One file; its repr shows no secret.

    `is_legacy` is true for ~/.dockercfg, which holds only the entries.
    """

    path: Path
    fields: Object = field(default_factory=dict, repr=False)
    is_legacy: bool = False

    @property
    def auths(self) -> Object:
        """The entries, by their keys; raises BadConfiguration."""
        return self.fields if self.is_legacy else self._object("auths")

    @property
    def helpers(self) -> dict[str, str]:
        """The names of the helpers, by host; raises BadConfiguration."""
        found = self._object("credHelpers")
        return {host: name for host, name in found.items() if isinstance(name, str) and name}

    @property
    def store(self) -> str:
        """The name of the helper for every host, or ""; raises BadConfiguration."""
        value = self.fields.get("credsStore") or ""
        if not isinstance(value, str):
            raise self._wrong("credsStore")
        return "" if self.is_legacy else value

    def entry(self, host: str, path: str) -> Credentials | None:
        """Return the credentials in the entry that fits best; raises BadConfiguration."""
        for key in self.keys(host, path):
            entry = self.auths[key]
            if not isinstance(entry, dict):
                raise self._wrong(key)
            found = self._credentials(key, entry)
            if found is not None:
                return found
        return None

    def keys(self, host: str, path: str = "") -> list[str]:
        """Return the keys of this file that are for a repository, the most exact first."""
        found = [key for key in _names(host, path) if key in self.auths]
        older = [
            key for key in self.auths if key not in found and is_same_host(_host_of(key), host)
        ]
        return found + [key for key in older if "://" in key or key.rstrip("/") == _host_of(key)]

    def _credentials(self, key: str, entry: Object) -> Credentials | None:
        try:
            token = text_of(entry, "identitytoken")
            packed = text_of(entry, "auth")
            plain = base64.b64decode(packed, validate=True).decode() if packed else ""
            user, colon, password = plain.partition(":")
            if not packed:
                user, password = text_of(entry, "username"), text_of(entry, "password")
            elif not colon:
                raise ValueError
        except (InvalidImage, ValueError):
            raise self._wrong(key) from None
        if token:
            return Credentials(user, identity_token=token)
        return Credentials(user, password.rstrip("\0")) if user or password else None

    def _object(self, name: str) -> Object:
        try:
            return object_of(self.fields, name)
        except InvalidImage:
            raise self._wrong(name) from None

    def _wrong(self, name: str) -> BadConfiguration:
        return BadConfiguration(f'{self.path} has a wrong entry "{shown(name)}"')


def read_auth_files(locations: Locations) -> Iterator[AuthFile]:
    """Yield the files that this user can read, the one with the highest priority first.

    A file of another user is skipped: a variable that su(1) kept may still name it.
    Raises BadConfiguration if a file cannot be parsed.
    """
    for path in auth_paths(locations):
        try:
            found = read_auth_file(path, path == locations.home / ".dockercfg")
        except Unreadable:
            continue
        if found is not None:
            yield found


def auth_paths(locations: Locations) -> list[Path]:
    """Return where credentials may be, in the order in which the files count."""
    if locations.auth_file is not None:
        return [locations.auth_file]
    return [
        locations.podman_auth,
        locations.config / "containers" / "auth.json",
        locations.docker_auth,
        locations.home / ".dockercfg",
    ]


def read_auth_file(path: Path, is_legacy: bool = False) -> AuthFile | None:
    """Return the file at `path`, None if there is none; raises BadConfiguration."""
    try:
        data = read_file(path)
        if data is None:
            return None
        return AuthFile(path, parse_document(data or b"{}", "file"), is_legacy)
    except PermissionError:
        raise Unreadable(f"{path} cannot be read by this user") from None
    except OSError as error:
        raise BadConfiguration(f"{path} cannot be read: {error.strerror or error}") from None
    except InvalidImage:
        # The message of the parser may contain a secret from the file.
        raise BadConfiguration(f"{path} is not a JSON object: repair or remove it") from None


def change_auths(path: Path, change: Callable[[Object], None]) -> None:
    """Let `change` edit the entries of the file at `path`, which is created if it is missing.

    Raises BadConfiguration, or OSError if it cannot be written.
    """
    real = Path(os.path.realpath(path))
    real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(real.parent):
        before = read_auth_file(real) or AuthFile(real)
        auths = dict(before.auths)
        change(auths)
        text = json.dumps({**before.fields, "auths": auths}, indent="\t", ensure_ascii=False)
        _replace(real, text.encode() + b"\n")


def key_for(host: str, path: Path, locations: Locations) -> str:
    """Return the key under which an entry for `host` is written to the file `path`."""
    if not is_same_host("docker.io", host):
        return host
    return HUB if path == locations.docker_auth else "docker.io"


def server_names(host: str) -> list[str]:
    """Return the names under which a helper may store `host`, docker's first."""
    return [HUB, "docker.io"] if is_same_host("docker.io", host) else [host]


def is_same_host(first: str, second: str) -> bool:
    """Tell whether two hosts have the same accounts, as all names of Docker Hub do."""
    return first == second or (first in _HUB_HOSTS and second in _HUB_HOSTS)


def _names(host: str, path: str) -> list[str]:
    hosts = ["docker.io", "index.docker.io", host] if host in _HUB_HOSTS else [host]
    parts = path.split("/") if path else []
    below = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return [f"{one}/{rest}" for one in hosts for rest in below] + hosts


def _host_of(key: str) -> str:
    return key.rpartition("://")[2].partition("/")[0]


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory, so that two logins do not lose each other's entry."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes) -> None:
    with open_directory(path.parent) as parent, new_file(parent.fd, path.name, 0o600) as fd:
        write_at(fd, data, 0)
        if os.geteuid() == 0 and path.exists():
            there = path.stat()
            os.fchown(fd, there.st_uid, there.st_gid)
