"""Parse the values of the flags of `build`.

Source: docker/cli `cli/command/image/build.go`, `opts`; buildx `docs/reference`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from layerstore.errors import StoreError, shown
from layerstore.given_file import read_given
from layerstore.oci.durations import SECOND
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mount_tools.container.rights import Rights

LARGEST_SECRET = 500 << 10  # bytes, as BuildKit has it
NETWORKS = ("default", "host", "none")


def build_arguments(words: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the `--build-arg`s; one without a value takes it from the environment, if set."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise StoreError(
                f'invalid argument "{shown(word)}" for "--build-arg" flag: write NAME=VALUE'
            )
        if equals:
            found[name] = value
        elif name in environment:
            found[name] = environment[name]
    return found


def labels(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the `--label`s, sorted by name; if one is repeated, the last counts."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name:
            raise StoreError(
                f'invalid argument "{shown(word)}" for "--label" flag: write NAME=VALUE'
            )
        found[name] = value
    return sorted(found.items())


def extra_hosts(words: Sequence[str]) -> tuple[str, ...]:
    """Return the `--add-host`s, lines `name:address` for /etc/hosts."""
    for word in words:
        name, colon, address = word.partition(":")
        if not name or not colon or not _is_address(address):
            raise StoreError(f'bad format for add-host: "{shown(word)}": write NAME:ADDRESS')
    return tuple(words)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def rights(
    security: Sequence[str],
    ulimits: Sequence[str],
    added: Sequence[str] = (),
    dropped: Sequence[str] = (),
) -> Rights | None:
    """Return the rights of a RUN by `--security-opt`, `--ulimit`, `--cap-add` and `--cap-drop`.

    Returns None without these.  Raises StoreError.
    """
    if not (security or ulimits or added or dropped):
        return None
    # Rarely used.
    from mount_tools.container.rights import Rights, capabilities, parse_ulimit, security_options

    seccomp, no_new_privileges = security_options(security)
    return Rights(
        capabilities(added, dropped, privileged=False),
        no_new_privileges=no_new_privileges,
        ulimits=tuple(parse_ulimit(text) for text in ulimits),
        seccomp=seccomp,
    )


def checked_network(word: str) -> str:
    """Return the `--network` of a build; raises StoreError if there is no such network."""
    if word not in NETWORKS:
        raise StoreError(
            f"network {shown(word)} not found: a RUN uses the network of the host, which is "
            "--network host or default, or --network none"
        )
    return word


def read_secrets(words: Sequence[str], environment: Mapping[str, str]) -> dict[str, bytes]:
    """Return the values of the `--secret`s, `id=ID[,src=FILE|,env=NAME]`, by id.

    Without src and env, a secret is the variable ID if it is set, else the file ID.  No error
    message shows a part of a secret's value.
    """
    found = {}
    for word in words:
        fields = _fields(word)
        name = fields.get("id", "")
        if not name:
            raise StoreError(f'invalid secret "{shown(word)}": write id=NAME,src=FILE')
        if name in found:
            raise StoreError(f"the secret {shown(name)} is given twice")
        found[name] = _secret(name, fields, environment)
    return found


def _fields(word: str) -> dict[str, str]:
    import csv  # few builds have a secret

    try:
        parts = next(csv.reader([word]), [])
    except csv.Error:  # its text speaks of files
        raise StoreError(f'invalid secret "{shown(word)}": it is not one line of CSV') from None
    fields: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        key = {"source": "src"}.get(key.lower(), key.lower())
        if not equals or key not in ("type", "id", "src", "env"):
            raise StoreError(f"unexpected key '{shown(key)}' in the secret '{shown(word)}'")
        fields[key] = value
    kind = fields.pop("type", "")
    if kind not in ("", "file", "env"):
        raise StoreError(f'unsupported secret type "{shown(kind)}"')
    if kind == "env" and "env" not in fields and "src" in fields:
        fields["env"] = fields.pop("src")
    if "src" in fields and "env" in fields:
        raise StoreError(f"the secret '{shown(word)}' has both src and env")
    return fields


def _secret(name: str, fields: Mapping[str, str], environment: Mapping[str, str]) -> bytes:
    variable = fields.get("env")
    if variable is None and "src" not in fields and name in environment:
        variable = name
    if variable is not None:
        if variable not in environment:
            raise StoreError(f"the secret {shown(name)}: the variable {shown(variable)} is not set")
        data = os.fsencode(environment[variable])
    else:
        path = fields.get("src", name)
        try:
            data = read_given(path, LARGEST_SECRET + 1)
        except OSError as error:
            raise StoreError(
                f"the secret {shown(name)} cannot be read: {shown(path)}: {error.strerror}"
            ) from None
    if len(data) > LARGEST_SECRET:
        raise StoreError(
            f"the secret {shown(name)} is larger than {LARGEST_SECRET:,} bytes, the limit"
        )
    return data


def source_date_epoch(arguments: Mapping[str, str], environment: Mapping[str, str]) -> int | None:
    """Return SOURCE_DATE_EPOCH in ns, from the build arguments or else from the environment.

    Source: reproducible-builds.org "SOURCE_DATE_EPOCH".
    """
    text = arguments.get("SOURCE_DATE_EPOCH", environment.get("SOURCE_DATE_EPOCH", ""))
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise StoreError(
            f"SOURCE_DATE_EPOCH is {shown(text)}: it must be a number of seconds since 1970"
        )
    return int(text) * SECOND
