"""The paths of the files of this machine and its user that configure registries.

The files are docker's and podman's own, so a setup that works for them works here.

Source: containers-registries.conf(5), containers-registries.conf.d(5),
containers-auth.json(5), containers-certs.d(5); docker's docs on `daemon.json` and
`config.json`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from layerstore.user import directory_in, home_directory, user_id

_LARGEST = 8 << 20  # bytes of a file that configures something


@dataclass(frozen=True, slots=True)
class Locations:
    """The directories and files; `of_user` returns those of the user of this process."""

    home: Path
    etc: Path
    config: Path  # $XDG_CONFIG_HOME
    runtime: Path  # $XDG_RUNTIME_DIR
    aliases: Path
    docker: Path  # $DOCKER_CONFIG
    registries_conf: Path | None = None  # $CONTAINERS_REGISTRIES_CONF
    auth_file: Path | None = None  # $REGISTRY_AUTH_FILE
    is_root: bool = True

    @classmethod
    def of_user(
        cls, environment: Mapping[str, str] | None = None, root: Path = Path("/")
    ) -> Locations:
        """Return the locations of this user; `root` replaces / in the paths of the machine."""
        variables = os.environ if environment is None else environment
        user = user_id()
        # For a user that /etc/passwd lacks nothing is read from the working directory.
        home = home_directory(variables) or root
        cache = directory_in("XDG_CACHE_HOME", variables) or home / ".cache"
        own = cache if user else root / "var" / "cache"
        registries_conf = variables.get("CONTAINERS_REGISTRIES_CONF")
        auth_file = variables.get("REGISTRY_AUTH_FILE")
        return cls(
            home=home,
            etc=root / "etc",
            config=directory_in("XDG_CONFIG_HOME", variables) or home / ".config",
            runtime=directory_in("XDG_RUNTIME_DIR", variables) or root / f"run/containers/{user}",
            aliases=own / "containers" / "short-name-aliases.conf",
            docker=Path(variables.get("DOCKER_CONFIG") or home / ".docker"),
            registries_conf=Path(registries_conf) if registries_conf else None,
            auth_file=Path(auth_file) if auth_file else None,
            is_root=user == 0,
        )

    def certificates(self) -> list[Path]:
        """Return the directories of certificates by host, in the order they are looked into."""
        return [
            self.config / "containers" / "certs.d",
            self.etc / "containers" / "certs.d",
            *([] if self.is_root else [self.config / "docker" / "certs.d"]),
            self.etc / "docker" / "certs.d",
        ]

    def daemon_json(self) -> list[Path]:
        """Return where docker's daemon may be configured."""
        own = self.config / "docker" / "daemon.json"
        return [*([] if self.is_root else [own]), self.etc / "docker" / "daemon.json"]

    @property
    def podman_auth(self) -> Path:
        """The file that podman writes credentials to."""
        return self.runtime / "containers" / "auth.json"

    @property
    def docker_auth(self) -> Path:
        """The file that docker writes credentials to."""
        return self.docker / "config.json"


def read_file(path: Path) -> bytes | None:
    """Return the content of a file, None if there is none.

    Raises OSError if it cannot be read, or is too large for a configuration file.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(data) > _LARGEST:
        raise OSError(f"it is larger than {_LARGEST >> 20} MiB")
    return data
