"""The flags of `create` and `run`, and how they change an image's configuration.

Decided here and only here: how a command line and an image's configuration become the
configuration of a container.  Words after the image replace its Cmd; `--entrypoint` replaces
its Entrypoint and its Cmd; variables and labels are added to those of the image.

Source: moby `daemon/commit.go:merge()`, docker/cli `cli/command/container/opts.go`.
Differs from docker: flags for what PyUnion does not have (restarts, health checks) are
refused, not ignored, with what to do instead.  A network is the host's or none.  A container
has an init of ours, unless --init=false is given or its command is an init: one that is not
process 1 refuses to work (that of s6-overlay, systemd) or warns each time (tini).
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence

from layerstore.errors import InvalidReference, StoreError
from layerstore.given_file import read_given
from layerstore.oci.json_values import JSON, Object
from layerstore.oci.run_config import RunConfig, of_image
from mount_tools.cli import framework
from mount_tools.cli.errors import WrongWords
from mount_tools.container.devices import parse_device
from mount_tools.container.host_config import (
    HOST_NETWORK,
    NO_NETWORK,
    HostConfig,
    checked_hostname,
)
from mount_tools.container.limits import parse_limits, size_of
from mount_tools.container.mount_words import (
    StoreVolume,
    Tmpfs,
    Volume,
    parse_mount,
    parse_tmpfs,
    parse_volume,
)
from mount_tools.container.rights import capability, parse_ulimit, security_options
from mount_tools.container.signals import find_signal
from unionfs.light_typing import NamedTuple, TypeVar

_LARGEST_ENV_FILE = 4 << 20  # bytes; execve(2) takes less
_INITS = frozenset(
    (
        "catatonit",
        "docker-init",
        "dumb-init",
        "init",
        "my_init",
        "pid1",
        "runit-init",
        "s6-svscan",
        "systemd",
        "tini",
        "tini-static",
    )
)

Decorated = TypeVar("Decorated", bound=Callable[..., object])


class ContainerFlags(NamedTuple):
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
    init: bool | None = None
    mount: tuple[str, ...] = ()
    volumes_from: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    ulimit: tuple[str, ...] = ()
    add_host: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    stop_signal: str | None = None
    stop_timeout: int = -1
    memory: str | None = None
    memory_swap: str | None = None
    cpus: str | None = None
    pids_limit: int = 0
    device: tuple[str, ...] = ()
    platform: str | None = None
    publish: tuple[str, ...] = ()
    shm_size: str | None = None
    rm: bool = False
    cidfile: str | None = None


_SHARED = (
    framework.text("--name", says="Assign a name to the container"),
    framework.text("--entrypoint", says="Overwrite the default ENTRYPOINT of the image"),
    framework.texts("-e", "--env", says="Set environment variables"),
    framework.texts("--env-file", says="Read in a file of environment variables"),
    framework.texts("-l", "--label", says="Set meta data on a container"),
    framework.texts(
        "-v",
        "--volume",
        says="Mount a volume, or a directory or file of the host: [SOURCE:]TARGET[:ro]",
    ),
    framework.text("-w", "--workdir", says="Working directory inside the container"),
    framework.text("-u", "--user", says="Username or UID (format: <name|uid>[:<group|gid>])"),
    framework.text("-h", "--hostname", says="Container host name"),
    framework.flag("-i", "--interactive", says="Keep STDIN open"),
    framework.flag("-t", "--tty", says="Allocate a pseudo-TTY"),
    framework.texts("--mount", says="Attach a filesystem mount: type=volume, bind or tmpfs"),
    framework.texts(
        "--volumes-from", says="Mount volumes from the specified container(s): NAME[:ro]"
    ),
    framework.texts("--tmpfs", says="Mount a tmpfs directory: TARGET[:OPTIONS]"),
    framework.text("-m", "--memory", says="Memory limit", metavar="bytes"),
    framework.text(
        "--memory-swap",
        says="Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
        metavar="bytes",
    ),
    framework.text("--cpus", says="Number of CPUs", metavar="decimal"),
    framework.number(
        "--pids-limit", says="Tune container pids limit (set -1 for unlimited)", default=0
    ),
    framework.texts("--device", says="Add a host device to the container"),
    framework.text("--platform", says="Pull the image for this platform: OS/ARCH[/VARIANT]"),
    framework.text("--network", "--net", says="The network of the container: host, or none"),
    framework.flag("--privileged", says="Give extended privileges to this container"),
    framework.texts("--cap-add", says="Add Linux capabilities"),
    framework.texts("--cap-drop", says="Drop Linux capabilities"),
    framework.texts(
        "--security-opt",
        says="Security options: no-new-privileges, seccomp=FILE, seccomp=unconfined",
    ),
    framework.texts("--ulimit", says="Ulimit options: NAME=SOFT[:HARD]"),
    framework.texts("--add-host", says="Add a custom host-to-IP mapping (host:ip)"),
    framework.texts("--dns", says="Set custom DNS servers"),
    framework.texts("--dns-search", says="Set custom DNS search domains"),
    framework.texts("--dns-option", says="Set DNS options"),
    framework.flag("--rm", says="Automatically remove the container when it exits"),
    framework.texts(
        "-p",
        "--publish",
        says="A port that the container opens, as 8080:8080: it has the ports of the host",
    ),
    framework.text("--shm-size", says="Size of /dev/shm, as 1g (default 64m)"),
    framework.text("--cidfile", says="Write the container ID to the file"),
    framework.text("--stop-signal", says="Signal to stop the container"),
    framework.number("--stop-timeout", says="Timeout (in seconds) to stop a container", default=-1),
    framework.text(
        "--pull",
        says='Pull image before running: "always", "missing" or "never"',
        default="missing",
    ),
    framework.flag("-q", "--quiet", says="Suppress the pull output"),
    framework.flag(
        "--init",
        says="Run an init that forwards signals and reaps processes (default, unless the command "
        "is one, as tini); with --init=false the command is process 1",
        default=None,
    ),
    framework.flag("--read-only", says="Mount the container's root filesystem as read only"),
)


def container_flags(function: Decorated) -> Decorated:
    """Add the flags that `create` and `run` share; they are the fields of ContainerFlags."""
    for add in _SHARED:
        function = add(function)
    return function


def config_of(
    image: Object,
    image_name: str,
    flags: ContainerFlags,
    command: Sequence[str],
    environ: Mapping[str, str] = os.environ,
    *,
    runs: bool = True,
) -> Object:
    """Return a container's configuration, from the image's and the command line.

    A container that is not started at once needs no command: the user may only mount it.
    Raises StoreError in docker's words, WrongWords.
    """
    config: Object = {**of_image(image), "Image": image_name}
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
        # docker, too, takes an empty one for none.
        config["Hostname"] = flags.hostname and checked_hostname(flags.hostname)
    if flags.workdir is not None:
        if not flags.workdir.startswith("/"):
            raise StoreError(
                f"the working directory '{flags.workdir}' is invalid, "
                "it needs to be an absolute path"
            )
        config["WorkingDir"] = posixpath.normpath(flags.workdir)
    if flags.stop_signal is not None:
        if find_signal(flags.stop_signal) is None:
            raise StoreError(f"Invalid signal: {flags.stop_signal}")
        config["StopSignal"] = flags.stop_signal
    if flags.stop_timeout >= 0:
        config["StopTimeout"] = flags.stop_timeout
    mounts = _Mounts(flags)
    if mounts.unnamed:
        declared: Object = {target: {} for target in mounts.unnamed}
        config["Volumes"] = {**RunConfig(image).members("Volumes"), **declared}
    init = flags.init if flags.init is not None else not _is_init(RunConfig(config).argv)
    config["HostConfig"] = _host_config(flags, mounts, init=init).fields
    return config


def _is_init(words: Sequence[str]) -> bool:
    """Tell whether the command `words` is an init by its name."""
    return bool(words) and posixpath.basename(words[0]) in _INITS


class _Mounts:
    """What is to be mounted: the values of -v, --mount and --tmpfs, by their kind.

    `unnamed` are the targets of `-v TARGET`, which are recorded as the image's own volumes are.
    """

    def __init__(self, flags: ContainerFlags) -> None:
        self.volumes: list[Volume] = []
        self.named: list[StoreVolume] = []
        self.mounts: list[StoreVolume] = []
        self.unnamed: list[str] = []
        self.tmpfs = [parse_tmpfs(text) for text in flags.tmpfs]
        if shm := size_of("--shm-size", flags.shm_size):
            self.tmpfs.append(parse_tmpfs(f"/dev/shm:size={shm}"))
        for text in flags.volume:
            match parse_volume(text):
                case Volume() as volume:
                    self.volumes.append(volume)
                case StoreVolume(name, target) as one:
                    if name:
                        self.named.append(one)
                    else:
                        self.unnamed.append(target)
        for text in flags.mount:
            match parse_mount(text):
                case Volume() as volume:
                    self.volumes.append(volume)
                case StoreVolume() as one:
                    self.mounts.append(one)
                case Tmpfs() as empty:
                    self.tmpfs.append(empty)


def _host_config(flags: ContainerFlags, mounts: _Mounts, *, init: bool) -> HostConfig:
    if flags.network not in (None, HOST_NETWORK, NO_NETWORK):
        raise StoreError(
            f"network {flags.network} not found: a container uses the network of the host, which "
            "is --network host, or --network none"
        )
    ports: Object = {}
    if flags.publish:
        from mount_tools.container.published_ports import bindings_of  # few name any

        ports = bindings_of(flags.publish, network=flags.network != NO_NETWORK)
    profile, no_new_privileges = security_options(flags.security_opt)
    for pair in flags.add_host:
        name, colon, address = pair.partition(":")
        if not name or not colon or not _is_address(address):
            raise StoreError(f"bad format for add-host: {pair}: write NAME:ADDRESS")
    for address in flags.dns:
        if not _is_address(address):
            raise StoreError(f"{address} is not an ip address")
    return HostConfig(
        volumes=tuple(mounts.volumes),
        read_only=flags.read_only,
        tmpfs=tuple(mounts.tmpfs),
        network=flags.network or HOST_NETWORK,
        privileged=flags.privileged,
        cap_add=tuple(capability(text) for text in flags.cap_add),
        cap_drop=tuple(capability(text) for text in flags.cap_drop),
        no_new_privileges=no_new_privileges,
        ulimits=tuple(parse_ulimit(text) for text in flags.ulimit),
        extra_hosts=flags.add_host,
        dns=flags.dns,
        dns_search=flags.dns_search,
        dns_options=flags.dns_option,
        init=init,
        named=tuple(mounts.named),
        mounts=tuple(mounts.mounts),
        volumes_from=flags.volumes_from,
        limits=parse_limits(flags.memory, flags.memory_swap, flags.cpus, flags.pids_limit),
        devices=tuple(parse_device(text) for text in flags.device),
        seccomp=profile,
        ports=ports,
    )


def _is_address(text: str) -> bool:
    from ipaddress import ip_address

    try:
        ip_address(text)
    except ValueError:
        return False
    return True


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
        data = read_given(path, _LARGEST_ENV_FILE + 1)
    except OSError as error:
        raise WrongWords(f"open {path}: {(error.strerror or '').lower()}", 125) from None
    if len(data) > _LARGEST_ENV_FILE:
        raise WrongWords(f"{path} is larger than {_LARGEST_ENV_FILE >> 20} MiB", 125)
    found = data.decode(errors="surrogateescape").replace("\r\n", "\n").split("\n")
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
