"""The changes an instruction makes to a run configuration, and its text in the history.

This module alone decides both, for each instruction that makes no layer.  They are as in
docker's classic builder, so that the same file gives the same configuration.

Source: moby `builder/dockerfile/dispatchers.go`, `internals.go`; `runconfig/merge.go` for
the times of a health check.
"""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Callable, Iterable, Mapping

from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.gotext import duration, quote_list, quote_rune
from layerstore.containerfile.instructions import (
    Arg,
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from layerstore.errors import shown
from layerstore.oci.json_values import JSON, Object
from layerstore.oci.run_config import RunConfig

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PORT = (
    r"(?:[0-9a-fA-F.:\[\]]*:)?(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?"
    r"(?:/(?P<protocol>tcp|udp|sctp))?"
)
_TIMES = ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")
_SIGNALS = {name.removeprefix("SIG") for name in signal.Signals.__members__} | {
    f"RT{end}{sign}{number}"
    for end, sign, most in (("MIN", "+", 15), ("MAX", "-", 14))
    for number in range(1, most + 1)
}


def clean_path(path: str) -> str:
    """Return the absolute `path` without `.`, `..` and superfluous slashes."""
    return "/" + posixpath.normpath(path).lstrip("/")


class ConfigChanges:
    """A run configuration while instructions are applied to it, one after the other.

    `config` is the configuration so far; the configuration of the base image is not changed.
    """

    def __init__(self, config: Object) -> None:
        self.config: Object = dict(config)
        self.author = ""
        self._command_is_set = False

    @property
    def shell(self) -> tuple[str, ...]:
        """The words before a command of the shell form."""
        return tuple(RunConfig(self.config).words("Shell")) or DEFAULT_SHELL

    def argv(self, command: Command) -> list[str]:
        """Return the words that are executed for `command`."""
        return [*self.shell, *command.words] if command.shell else list(command.words)

    def apply(self, one: Instruction) -> str | None:
        """Apply the expanded instruction `one`; return its text for the history.

        For FROM and for an instruction that makes a layer it changes nothing and returns
        None.  Raises ContainerfileError.
        """
        change = _CHANGES.get(type(one))
        return None if change is None else change(self, one)

    def _workdir(self, one: Workdir) -> str:
        if not one.path:
            raise ContainerfileError(one.at, "cannot normalize nothing")
        path = one.path
        if not path.startswith("/"):  # an absolute path stays as it is written, as in docker
            before = RunConfig(self.config).working_dir
            path = clean_path(posixpath.join("/", before, path))
        self.config["WorkingDir"] = path
        return f"WORKDIR {path}"

    def _env(self, one: Env) -> str:
        listed = RunConfig(self.config).env
        places: dict[str, int] = {}
        for index, pair in enumerate(listed):
            places.setdefault(pair.partition("=")[0], index)
        for name, value in one.pairs:
            if name in places:
                listed[places[name]] = f"{name}={value}"
            else:
                places[name] = len(listed)
                listed.append(f"{name}={value}")
        self.config["Env"] = list(listed)
        return "ENV" + "".join(f" {name}={value}" for name, value in one.pairs)

    def _label(self, one: Label) -> str:
        self._add("Labels", dict(one.pairs))
        return "LABEL" + "".join(f" {name}={value}" for name, value in one.pairs)

    def _arg(self, one: Arg) -> str:
        return "ARG " + " ".join(
            name if value is None else f"{name}={value}" for name, value in one.defaults
        )

    def _user(self, one: User) -> str:
        self.config["User"] = one.user
        return f"USER {one.user}"

    def _volume(self, one: Volume) -> str:
        if not all(one.paths):
            raise ContainerfileError(one.at, "VOLUME specified can not be an empty string")
        self._add("Volumes", {path: {} for path in one.paths})
        return f"VOLUME [{' '.join(one.paths)}]"

    def _expose(self, one: Expose) -> str:
        ports: Object = {}
        for word in one.ports:
            found = re.fullmatch(_PORT, word.lower())
            first, last = (found["first"], found["last"] or found["first"]) if found else ("0", "0")
            if found is None or not 0 < int(first) <= int(last) < 65536:
                raise ContainerfileError(one.at, f"Invalid containerPort: {shown(word)}")
            for port in range(int(first), int(last) + 1):
                ports[f"{port}/{found['protocol'] or 'tcp'}"] = {}
        self._add("ExposedPorts", ports)
        return f"EXPOSE {' '.join(one.ports)}"

    def _stopsignal(self, one: Stopsignal) -> str:
        word = one.signal
        name = word.upper().removeprefix("SIG")
        known = int(word) != 0 if re.fullmatch(r"-?[0-9]{1,9}", word) else name in _SIGNALS
        if not known:
            raise ContainerfileError(one.at, f"Invalid signal: {shown(word)}")
        self.config["StopSignal"] = word
        return f"STOPSIGNAL {word}"

    def _healthcheck(self, one: Healthcheck) -> str:
        given = (one.interval, one.timeout, one.start_period, one.start_interval, one.retries)
        before = RunConfig(self.config).healthcheck
        check: Object = {"Test": list(one.test)}
        for name, value in zip(_TIMES, given, strict=True):
            kept = value or before.get(name)
            if kept:
                check[name] = kept
        self.config["Healthcheck"] = check
        times = " ".join(f'"{duration(ns)}"' for ns in given[:3])
        return f"HEALTHCHECK &{{{quote_list(one.test)} {times} {quote_rune(one.retries)}}}"

    def _shell(self, one: Shell) -> str:
        self.config["Shell"] = list(one.words)
        return f"SHELL [{' '.join(one.words)}]"

    def _onbuild(self, one: Onbuild) -> str:
        self.config["OnBuild"] = [*RunConfig(self.config).on_build, one.trigger]
        return f"ONBUILD {one.trigger}"

    def _cmd(self, one: Cmd) -> str:
        argv = self.argv(one.command)
        self.config["Cmd"] = _json(argv)
        self._command_is_set = True
        return f"CMD {quote_list(argv)}"

    def _entrypoint(self, one: Entrypoint) -> str:
        argv = self.argv(one.command)
        self.config["Entrypoint"] = _json(argv)
        if not self._command_is_set:
            # The previous command was for another entrypoint.
            self.config["Cmd"] = None
        return f"ENTRYPOINT {quote_list(argv)}"

    def _maintainer(self, one: Maintainer) -> str:
        self.author = one.name
        return f"MAINTAINER {one.name}"

    def _add(self, name: str, added: Mapping[str, JSON]) -> None:
        self.config[name] = {**RunConfig(self.config).members(name), **added}


def _json(words: Iterable[str]) -> list[JSON]:
    return list(words)


# Each method is called only with the type that is its key here.
_CHANGES: Mapping[type, Callable[..., str]] = {
    Arg: ConfigChanges._arg,
    Cmd: ConfigChanges._cmd,
    Entrypoint: ConfigChanges._entrypoint,
    Env: ConfigChanges._env,
    Expose: ConfigChanges._expose,
    Healthcheck: ConfigChanges._healthcheck,
    Label: ConfigChanges._label,
    Maintainer: ConfigChanges._maintainer,
    Onbuild: ConfigChanges._onbuild,
    Shell: ConfigChanges._shell,
    Stopsignal: ConfigChanges._stopsignal,
    User: ConfigChanges._user,
    Volume: ConfigChanges._volume,
    Workdir: ConfigChanges._workdir,
}
