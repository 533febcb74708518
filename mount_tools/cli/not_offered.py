"""docker's commands and flags that PyUnion does not have, and what to do instead.

A word that neither docker nor PyUnion has is a typing error, and is not listed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_ENGINE = "there is no daemon: images and containers are files in the store"
_NETWORK = "a container uses the network of the host, or none (--network none)"
_LIMIT = (
    "--memory, --cpus and --pids-limit are the limits; for others start it by `systemd-run --scope "
    "-p PROPERTY=… pyunion run …`"
)
_RESTART = "use a unit of systemd with Restart= and `pyunion run` in it"
_PORTS = "a container shares the network of the host, so its ports are open there already"
_WINDOWS = "docker has it for Windows only"
_DEVICE = "--device gives one device, and --privileged all; no control group guards them"
_DRIVER = "a volume is a directory in the store: for others use -v DIRECTORY:TARGET, or --tmpfs"
_CHECKPOINT = "use CRIU itself"
_NAMESPACE = "a container always has its own namespaces, except for the network"

COMMANDS = {
    "app": "run containers one by one",
    "builder": "`pyunion prune` removes what no build needs",
    "buildx": "use `pyunion build`",
    "checkpoint": "use CRIU itself",
    "compose": "run containers one by one, or use podman-compose",
    "config": "mount a file with -v",
    "context": "name a store with --root or $PYUNION_ROOT",
    "events": _ENGINE,
    "manifest": "use `skopeo inspect --raw`, or buildah manifest",
    "network": _NETWORK,
    "node": _ENGINE,
    "plugin": _ENGINE,
    "secret": "mount a file with -v",
    "service": _ENGINE,
    "stack": _ENGINE,
    "stats": "use `pyunion top CONTAINER -o pid,pcpu,rss,args`, or top(1)",
    "swarm": _ENGINE,
    "trust": "a digest names exactly one image: NAME@sha256:…",
    "update": "remove the container and create it again",
}

_TO_RUN = {
    "--attach": "`run` shows stdout and stderr, and gives stdin with -i; -d shows nothing",
    "--blkio-weight": _LIMIT,
    "--blkio-weight-device": _LIMIT,
    "--cgroup-parent": _LIMIT,
    "--cgroupns": _LIMIT,
    "--cpu-count": _WINDOWS,
    "--cpu-percent": _WINDOWS,
    "--cpu-period": _LIMIT,
    "--cpu-quota": _LIMIT,
    "--cpu-rt-period": _LIMIT,
    "--cpu-rt-runtime": _LIMIT,
    "--cpu-shares": _LIMIT,
    "--cpuset-cpus": "use taskset(1) before pyunion",
    "--cpuset-mems": "use numactl(8) before pyunion",
    "--device-cgroup-rule": _DEVICE,
    "--device-read-bps": _LIMIT,
    "--device-read-iops": _LIMIT,
    "--device-write-bps": _LIMIT,
    "--device-write-iops": _LIMIT,
    "--disable-content-trust": "a digest names exactly one image: NAME@sha256:…",
    "--domainname": "give the full name to --hostname",
    "--expose": _PORTS,
    "--gpus": "--privileged gives all devices; mount the libraries with -v",
    "--group-add": "write the group into --user: USER:GROUP",
    "--health-cmd": _RESTART,
    "--health-interval": _RESTART,
    "--health-retries": _RESTART,
    "--health-start-period": _RESTART,
    "--health-timeout": _RESTART,
    "--io-maxbandwidth": _WINDOWS,
    "--io-maxiops": _WINDOWS,
    "--ip": _NETWORK,
    "--ip6": _NETWORK,
    "--ipc": _NAMESPACE,
    "--isolation": _WINDOWS,
    "--kernel-memory": _LIMIT,
    "--label-file": "use --label",
    "--link": "containers share the network of the host: use localhost",
    "--link-local-ip": _NETWORK,
    "--log-driver": "a log is a file in the format of json-file; `pyunion logs` prints it",
    "--log-opt": "a log keeps the last 16 to 32 MiB",
    "--mac-address": _NETWORK,
    "--memory-reservation": _LIMIT,
    "--memory-swappiness": _LIMIT,
    "--network-alias": _NETWORK,
    "--no-healthcheck": "nothing runs health checks; leave it out",
    "--oom-kill-disable": _LIMIT,
    "--oom-score-adj": "use choom(1) before pyunion",
    "--pid": _NAMESPACE,
    "--publish-all": _PORTS,
    "--restart": _RESTART,
    "--runtime": "PyUnion runs containers itself",
    "--storage-opt": "an upper has no size limit: put the store on a filesystem that has one",
    "--sysctl": "--privileged makes /proc/sys writable",
    "--userns": "an ordinary user's containers run in a user namespace; root's do not",
    "--uts": _NAMESPACE,
    "--volume-driver": _DRIVER,
    "-P": _PORTS,
    "-a": "`run` shows stdout and stderr, and gives stdin with -i; -d shows nothing",
    "-c": _LIMIT,
}

_RUN_LIMIT = (
    "a RUN has no limits but --ulimit; start the build by `systemd-run --scope -p PROPERTY=… "
    "pyunion build …`"
)
_BUILDER = "there is one builder, and no daemon"
_STATEMENT = "no statements about a build are made"

_TO_BUILD = {
    "--allow": "a RUN has the rights of an ordinary container; see --security-opt",
    "--attest": _STATEMENT,
    "--build-context": "name the image or the stage in the Containerfile, or copy it into PATH",
    "--builder": _BUILDER,
    "--cache-to": "the cache is in the store; `pyunion push` the image and use it as --cache-from",
    "--cgroup-parent": _RUN_LIMIT,
    "--compress": "a context is read where it is",
    "--cpu-period": _RUN_LIMIT,
    "--cpu-quota": _RUN_LIMIT,
    "--cpu-shares": _RUN_LIMIT,
    "--cpuset-cpus": "use taskset(1) before pyunion",
    "--cpuset-mems": "use numactl(8) before pyunion",
    "--disable-content-trust": "a digest names exactly one image: NAME@sha256:…",
    "--isolation": _WINDOWS,
    "--load": "the image is in the store as soon as it is built: leave it out",
    "--memory": _RUN_LIMIT,
    "--memory-swap": _RUN_LIMIT,
    "--metadata-file": "--iidfile writes the ID, and `pyunion inspect` prints the rest",
    "--no-cache-filter": "--no-cache does every step again",
    "--output": "`pyunion save` writes an image, `pyunion export` the files of a container",
    "--provenance": _STATEMENT,
    "--push": "use `pyunion push` after it",
    "--sbom": _STATEMENT,
    "--shm-size": "use RUN --mount=type=tmpfs,target=/dev/shm,size=…",
    "--ssh": "use --secret id=NAME,src=KEY and RUN --mount=type=secret,id=NAME",
    "-c": _RUN_LIMIT,
    "-m": _RUN_LIMIT,
    "-o": "`pyunion save` writes an image, `pyunion export` the files of a container",
}

OF_THE_STORE = {"--root": " DIRECTORY", "--no-sync": ""}
"""The flags of `pyunion` itself, with what follows them."""

FLAGS = {
    "build": _TO_BUILD,
    "run": _TO_RUN,
    "create": _TO_RUN,
    "exec": {"--privileged": "a command has the rights of its container"},
    "rm": {"--link": _NETWORK, "-l": _NETWORK},
    "volume create": {"--opt": _DRIVER, "-o": _DRIVER},
    "start": {"--checkpoint": _CHECKPOINT, "--checkpoint-dir": _CHECKPOINT},
}


def unknown_command(path: str, name: str, known: Sequence[str]) -> str:
    """Return the error for a command that is not one of `known`, those of the group `path`."""
    program, _, group = path.partition(" ")
    command = f"{group} {name}".strip()
    if name in COMMANDS:
        return f"{program} has no {command}: {COMMANDS[name]}"
    near = _nearest(name, known)
    meant = f" Did you mean '{near}'?" if near else ""
    return f"{program}: '{command}' is not a {program} command.{meant}\nSee '{path} --help'"


def unknown_flag(command: str, flag: str, known: Iterable[str]) -> str:
    """Return the error for a flag that is not one of `known`, those of `command`.

    `command` is its words after `pyunion`, "" for `pyunion` itself.
    """
    instead = flag_text(command, flag)
    if instead is not None:
        return instead
    if command and flag in OF_THE_STORE:
        return (
            f"{flag} goes before the command, as in `pyunion {flag}{OF_THE_STORE[flag]} {command}`"
        )
    near = _nearest(flag.removeprefix("--"), [name.removeprefix("--") for name in known], 0.7)
    return f"unknown flag: {flag}{f' (did you mean --{near}?)' if near else ''}"


def flag_text(command: str, flag: str) -> str | None:
    """Return a sentence for a flag of docker that is not offered, None for any other."""
    instead = FLAGS.get(command, {}).get(flag)
    return None if instead is None else f"pyunion has no {flag}: {instead}"


def _nearest(word: str, known: Sequence[str], least: float = 0.6) -> str:
    """Return the word of `known` that is most like `word`, or "" if none is like it.

    `least` is how much it has to be, by the ratio of difflib.
    """
    return next(iter(get_close_matches(word, known, n=1, cutoff=least)), "")
