"""The flags of `create` and `run`, and what they make of an image's configuration.

Decided here and only here: how a command line and an image's configuration become what a
container runs with.  Words after the image replace its Cmd, `--entrypoint` its Entrypoint
and with it its Cmd; variables and labels are added to those of the image.

Source: moby `daemon/commit.go:merge()`, docker/cli `cli/command/container/opts.go`.
Differs from docker: flags for what PyUnion does not have (cgroups, restarts, volumes with
names) are unknown, not ignored.  The only network is the host's, and every container has an
init; the flags that ask for these are accepted.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from layerstore.errors import InvalidReference, StoreError
from layerstore.oci.json_values import JSON, Object
from layerstore.oci.run_config import RunConfig
from mount_tools.cli import framework
from mount_tools.cli.errors import WrongWords
from mount_tools.container.detach_keys import DEFAULT
from mount_tools.container.host_config import HostConfig, parse_volume

Decorated = TypeVar("Decorated", bound=Callable[..., object])

_NETWORK = "host"


@dataclass(frozen=True)
class ContainerFlags:
    """The flags of the command line, unchanged."""

    name: str | None = None
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    volume: tuple[str, ...] = ()
    workdir: str | None = None
    user: str | None = None
    hostname: str | None = None
    interactive: bool = False
    tty: bool = False
    read_only: bool = False
    network: str | None = None
    pull: str = "missing"
    quiet: bool = False
    init: bool = False


def container_flags(function: Decorated) -> Decorated:
    """The flags that `create` and `run` share, given to the function by the names above."""
    for add in (
        framework.text("--name", says="Assign a name to the container"),
        framework.text("--entrypoint", says="Overwrite the default ENTRYPOINT of the image"),
        framework.texts("-e", "--env", says="Set environment variables"),
        framework.texts("--env-file", says="Read in a file of environment variables"),
        framework.texts("-l", "--label", says="Set meta data on a container"),
        framework.texts(
            "-v", "--volume", says="Bind mount a directory or a file: SOURCE:TARGET[:ro]"
        ),
        framework.text("-w", "--workdir", says="Working directory inside the container"),
        framework.text("-u", "--user", says="Username or UID (format: <name|uid>[:<group|gid>])"),
        framework.text("-h", "--hostname", says="Container host name"),
        framework.flag("-i", "--interactive", says="Keep STDIN open"),
        framework.flag("-t", "--tty", says="Allocate a pseudo-TTY"),
        framework.text("--network", says="Connect a container to a network: host is the only one"),
        framework.text(
            "--pull",
            says='Pull image before running: "always", "missing" or "never"',
            default="missing",
        ),
        framework.flag("-q", "--quiet", says="Suppress the pull output"),
        framework.flag("--init", says="Run an init inside the container, as is always done"),
        framework.flag("--read-only", says="Mount the container's root filesystem as read only"),
    ):
        function = add(function)
    return function


def detach_keys(function: Decorated) -> Decorated:
    """The flag `--detach-keys`, given to the function as `keys`."""
    return framework.text(
        "--detach-keys",
        "keys",
        says="Override the key sequence for detaching a container",
        default=DEFAULT,
    )(function)


def config_of(
    image: Object,
    image_name: str,
    flags: ContainerFlags,
    command: Sequence[str],
    environ: Mapping[str, str] = os.environ,
    *,
    runs: bool = True,
) -> Object:
    """Return what a container runs with, of the image's configuration and the command line.

    A container that is not run at once needs no command: it may only be mounted.
    Raises StoreError in docker's words, WrongWords.
    """
    if flags.network not in (None, _NETWORK):
        raise StoreError(
            f"network {flags.network} not found: a container uses the network of the host, which "
            "is --network host"
        )
    config: Object = {**image, "Image": image_name}
    if flags.entrypoint is not None:
        config["Entrypoint"] = [flags.entrypoint] if flags.entrypoint else None
        config["Cmd"] = list(command) or None
    elif command:
        config["Cmd"] = list(command)
    if runs and not config.get("Entrypoint") and not config.get("Cmd"):
        raise StoreError("No command specified")
    config["Env"] = _environment(image, flags, environ)
    config["Labels"] = _labels(image, flags)
    config["Tty"], config["OpenStdin"] = flags.tty, flags.interactive
    if flags.user is not None:
        config["User"] = flags.user
    if flags.hostname is not None:
        config["Hostname"] = flags.hostname
    if flags.workdir is not None:
        if not flags.workdir.startswith("/"):
            raise StoreError(
                f"the working directory '{flags.workdir}' is invalid, "
                "it needs to be an absolute path"
            )
        config["WorkingDir"] = posixpath.normpath(flags.workdir)
    volumes = tuple(parse_volume(text) for text in flags.volume)
    config["HostConfig"] = HostConfig(volumes, flags.read_only).fields
    return config


def _environment(image: Object, flags: ContainerFlags, environ: Mapping[str, str]) -> list[JSON]:
    variables = RunConfig(image).environment
    given = [line for path in flags.env_file for line in _lines_of(path)]
    for pair in (*given, *flags.env):
        name, equals, value = pair.partition("=")
        if not name:
            raise WrongWords(f'invalid argument "{pair}" for "-e, --env" flag: no name in it', 125)
        if equals:
            variables[name] = value
        elif name in environ:
            variables[name] = environ[name]
        else:
            variables.pop(name, None)
    return [f"{name}={value}" for name, value in variables.items()]


def _lines_of(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as lines:
            found = [line.rstrip("\n") for line in lines]
    except OSError as error:
        raise WrongWords(f"open {path}: {(error.strerror or '').lower()}", 125) from None
    kept = [line.lstrip() for line in found if line.strip() and not line.lstrip().startswith("#")]
    for line in kept:
        if re.search(r"\s", line.partition("=")[0]):
            raise WrongWords(f"{path}: variable '{line}' contains whitespaces", 125)
    return kept


def _labels(image: Object, flags: ContainerFlags) -> Object:
    labels: Object = {**RunConfig(image).labels}
    for pair in flags.label:
        name, _, value = pair.partition("=")
        if not name:
            raise InvalidReference(f"invalid label: {pair}")
        labels[name] = value
    return labels
