"""The credentials of this user: found where docker and podman keep them, stored there too.

This module alone decides which place has priority.  Within each file that is the helper
for the host, then an entry with a secret, then the helper for every host.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from layerstore.oci.json_values import Object
from layerstore.registry import credential_helpers
from layerstore.registry.auth_files import (
    AuthFile,
    auth_paths,
    change_auths,
    is_same_host,
    key_for,
    read_auth_file,
    read_auth_files,
    server_names,
)
from layerstore.registry.credentials import Credentials
from layerstore.registry.errors import BadConfiguration
from layerstore.registry.locations import Locations

_FILES = "containers-auth.json"  # in a list of helpers, this name means the files


class CredentialFiles:
    """A source of credentials; `helpers` is `credential-helpers` of registries.conf."""

    def __init__(
        self, locations: Locations | None = None, helpers: tuple[str, ...] = (_FILES,)
    ) -> None:
        self._locations = locations or Locations.of_user()
        self._helpers = helpers or (_FILES,)

    def find(self, host: str, path: str = "") -> Credentials | None:
        """Return what to log in at `host` with, for the repository `path`.

        Raises BadConfiguration or HelperFailed.
        """
        for helper in self._helpers:
            if helper != _FILES:
                found = _from_helper(helper, host)
                if found is not None:
                    return found
                continue
            for file in read_auth_files(self._locations):
                found = _from_file(file, host, path)
                if found is not None:
                    return found
        return None

    def files(self) -> list[Path]:
        """Return the files with credentials that exist, in the order in which they count."""
        return [path for path in auth_paths(self._locations) if os.path.exists(path)]

    def store(self, host: str, credentials: Credentials) -> Path | None:
        """Keep the credentials for `host`; return the file that holds the secret.

        Returns None if a helper holds it.  An existing entry is replaced in its own file, so
        that it does not hide the new one; a new entry goes to docker's file, or to podman's
        if only podman's exists.
        """
        path = self._home_of(host)
        file = read_auth_file(path) or AuthFile(path)
        helper = _helper_of(file, host)
        key = key_for(host, path, self._locations)
        entry: Object = {}
        if helper:
            credential_helpers.store(helper, server_names(host)[0], credentials)
        else:
            pair = f"{credentials.username}:{credentials.password}".encode()
            entry["auth"] = base64.b64encode(pair).decode("ascii")
            if credentials.identity_token:
                entry["identitytoken"] = credentials.identity_token

        def put(auths: Object) -> None:
            for old in file.keys(host):
                auths.pop(old, None)
            auths[key] = entry

        _change(path, put)
        return None if helper else path

    def erase(self, host: str) -> bool:
        """Forget the credentials for `host` in each file and helper; tell if there were any."""
        found = False
        for file in list(read_auth_files(self._locations)):
            helper = _helper_of(file, host)
            if helper:
                for server in server_names(host):
                    found |= credential_helpers.erase(helper, server)
            keys = file.keys(host)
            if keys and not file.is_legacy:
                found = True
                _change(file.path, partial(_remove, keys))
        return found

    def _home_of(self, host: str) -> Path:
        locations = self._locations
        if locations.auth_file is not None:
            return locations.auth_file
        files = [file for file in read_auth_files(locations) if not file.is_legacy]
        for file in files:
            if file.keys(host):
                return file.path
        if files and all(file.path != locations.docker_auth for file in files):
            return files[0].path
        return locations.docker_auth


def _from_file(file: AuthFile, host: str, path: str) -> Credentials | None:
    for name, helper in file.helpers.items():
        if is_same_host(name.rpartition("://")[2].partition("/")[0], host):
            return _from_helper(helper, host)
    found = file.entry(host, path)
    if found is None and file.store:
        found = _from_helper(file.store, host)
    return found


def _from_helper(helper: str, host: str) -> Credentials | None:
    answers = (credential_helpers.get(helper, server) for server in server_names(host))
    return next((found for found in answers if found is not None), None)


def _helper_of(file: AuthFile, host: str) -> str:
    own = (helper for name, helper in file.helpers.items() if is_same_host(name, host))
    return next(own, file.store)


def _remove(keys: list[str], auths: Object) -> None:
    for key in keys:
        auths.pop(key, None)


def _change(path: Path, change: Callable[[Object], None]) -> None:
    try:
        change_auths(path, change)
    except OSError as error:
        raise BadConfiguration(f"{path} cannot be written: {error.strerror}") from None
