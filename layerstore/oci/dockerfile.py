"""`--change`: Dockerfile instructions applied to the run configuration of an image.

Decided here and only here: which instructions are accepted, and what each does.  They are
those of docker's `commit -c` and `import -c`, and STOPSIGNAL, which its builder has.

Source: moby `builder/dockerfile/dispatchers.go`; buildkit `frontend/dockerfile/parser/
line_parsers.go`, `shell/lex.go`, whose error texts these are.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence

from layerstore.errors import StoreError
from layerstore.oci.durations import MILLISECOND, parse_duration
from layerstore.oci.json_values import JSON, Object, loads
from layerstore.oci.run_config import RunConfig

_SHELL = ["/bin/sh", "-c"]
_PORT = re.compile(
    r"(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?(?:/(?P<protocol>tcp|udp|sctp))?"
)
_WORD = re.compile(r"(?:\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"|[^\s'\"\\])+", re.DOTALL)
_VARIABLE = re.compile(
    r"\$(?:(?P<name>\w+)|\{(?P<braced>\w+)(?:(?P<kind>:[-+])(?P<word>[^}]*))?\})"
)
_NOT_TRIGGERS = ("FROM", "MAINTAINER")


def apply_changes(config: Object, changes: Sequence[str]) -> Object:
    """Return the run configuration `config` with the instructions `changes` applied to it.

    Raises StoreError, in docker's words, for an instruction that is not accepted.
    """
    applied = _Changes(dict(config))
    for change in changes:
        instructions = [line for line in _lines(change) if line and not line.startswith("#")]
        if not instructions:
            raise StoreError("file with no instructions")
        for line in instructions:
            applied.instruction(line)
    return applied.config


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\\\n", "").split("\n")]


class _Changes:
    """A configuration while instructions are applied to it, one after the other."""

    def __init__(self, config: Object) -> None:
        self.config = config
        self._command_is_set = False

    def instruction(self, line: str) -> None:
        name, _, rest = line.replace("\t", " ").partition(" ")
        by_name: dict[str, Callable[[str], None]] = {
            "cmd": self._cmd,
            "entrypoint": self._entrypoint,
            "env": self._env,
            "expose": self._expose,
            "healthcheck": self._healthcheck,
            "label": self._label,
            "onbuild": self._onbuild,
            "stopsignal": self._stopsignal,
            "user": self._user,
            "volume": self._volume,
            "workdir": self._workdir,
        }
        apply = by_name.get(name.lower())
        if apply is None:
            raise StoreError(f"{name.lower()} is not a valid change command")
        apply(rest.strip())

    # -- what is run --

    def _cmd(self, rest: str) -> None:
        self.config["Cmd"] = _command("CMD", rest)
        self._command_is_set = True

    def _entrypoint(self, rest: str) -> None:
        self.config["Entrypoint"] = _command("ENTRYPOINT", rest)
        if not self._command_is_set:
            # The previous command was for another entrypoint.
            self.config["Cmd"] = None

    def _healthcheck(self, rest: str) -> None:
        check: Object = {}
        while rest.startswith("--"):
            flag, _, rest = rest.partition(" ")
            rest = rest.strip()
            name, _, value = flag[2:].partition("=")
            _set_health_flag(check, name, value)
        kind, _, command = rest.partition(" ")
        if not kind:
            raise StoreError("HEALTHCHECK requires at least one argument")
        if kind.upper() == "NONE":
            if command.strip():
                raise StoreError("HEALTHCHECK NONE takes no arguments")
            self.config["Healthcheck"] = {"Test": ["NONE"]}
            return
        if kind.upper() != "CMD":
            raise StoreError(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
        words = _json_words(command.strip())
        if not (words if words is not None else command.strip()):
            raise StoreError("Missing command after HEALTHCHECK CMD")
        test: list[JSON] = ["CMD", *words] if words is not None else ["CMD-SHELL", command.strip()]
        self.config["Healthcheck"] = {"Test": test, **check}

    def _onbuild(self, rest: str) -> None:
        trigger = rest.partition(" ")[0].upper()
        if not trigger:
            raise StoreError("ONBUILD requires at least one argument")
        if trigger == "ONBUILD":
            raise StoreError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
        if trigger in _NOT_TRIGGERS:
            raise StoreError(f"{trigger} isn't allowed as an ONBUILD trigger")
        self.config["OnBuild"] = [*self._listed("OnBuild"), rest]

    # -- what it runs with --

    def _env(self, rest: str) -> None:
        variables = RunConfig(self.config).environment
        variables.update(self._pairs("ENV", rest))
        self.config["Env"] = [f"{name}={value}" for name, value in variables.items()]

    def _label(self, rest: str) -> None:
        self._added("Labels", dict(self._pairs("LABEL", rest)))

    def _user(self, rest: str) -> None:
        self.config["User"] = self._one("USER", rest)

    def _stopsignal(self, rest: str) -> None:
        self.config["StopSignal"] = self._one("STOPSIGNAL", rest)

    def _workdir(self, rest: str) -> None:
        before = str(self.config.get("WorkingDir") or "/")
        self.config["WorkingDir"] = posixpath.normpath(
            posixpath.join("/", before, self._one("WORKDIR", rest))
        )

    def _volume(self, rest: str) -> None:
        words = _json_words(rest)
        names = [self._expanded(word) for word in (rest.split() if words is None else words)]
        if not names:
            raise StoreError("VOLUME requires at least one argument")
        self._added("Volumes", {name: {} for name in names})

    def _expose(self, rest: str) -> None:
        if not rest:
            raise StoreError("EXPOSE requires at least one argument")
        ports: Object = {}
        for word in self._expanded(rest).split():
            found = _PORT.fullmatch(word.lower())
            first, last = (found["first"], found["last"] or found["first"]) if found else ("0", "0")
            if found is None or not 0 < int(first) <= int(last) < 65536:
                raise StoreError(f"Invalid containerPort: {word}")
            for port in range(int(first), int(last) + 1):
                ports[f"{port}/{found['protocol'] or 'tcp'}"] = {}
        self._added("ExposedPorts", ports)

    # -- words --

    def _listed(self, name: str) -> list[JSON]:
        found = self.config.get(name)
        return found if isinstance(found, list) else []

    def _added(self, name: str, added: Mapping[str, JSON]) -> None:
        found = self.config.get(name)
        self.config[name] = {**(found if isinstance(found, dict) else {}), **added}

    def _one(self, name: str, rest: str) -> str:
        if not rest:
            raise StoreError(f"{name} requires exactly one argument")
        return self._expanded(rest)

    def _pairs(self, name: str, rest: str) -> list[tuple[str, str]]:
        """Return the `name=value`s of a line, or the one pair of the older `name value`."""
        if not rest:
            raise StoreError(f"{name} requires at least one argument")
        words = _WORD.findall(rest)
        if not words or "=" not in words[0]:
            key, space, value = rest.partition(" ")
            if not space:
                raise StoreError(f"{name} must have two arguments")
            return [(self._expanded(key), self._expanded(value.strip()))]
        pairs = []
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise StoreError(
                    f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value'
                )
            if not key:
                raise StoreError(f"{name} names can not be blank")
            pairs.append((self._expanded(key), self._expanded(value)))
        return pairs

    def _expanded(self, word: str) -> str:
        """Return `word` without its quotes, with the variables of the configuration's Env."""
        variables = RunConfig(self.config).environment

        def expand(text: str) -> str:
            def one(match: re.Match[str]) -> str:
                value = variables.get(match["name"] or match["braced"], "")
                if match["kind"] == ":-":
                    return value or match["word"]
                if match["kind"] == ":+":
                    return match["word"] if value else ""
                return value

            return _VARIABLE.sub(one, text)

        parts = re.findall(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.|[^'\"\\]+|['\"\\]", word, re.DOTALL)
        done = ""
        for part in parts:
            if len(part) > 1 and part[0] == "'":
                done += part[1:-1]
            elif len(part) > 1 and part[0] == '"':
                inside = re.findall(r"\\[\"$\\]|[^\\]+|\\", part[1:-1], re.DOTALL)
                done += "".join(
                    piece[1] if len(piece) == 2 and piece[0] == "\\" else expand(piece)
                    for piece in inside
                )
            elif len(part) == 2 and part[0] == "\\":
                done += part[1]
            else:
                done += expand(part)
        return done


def _command(name: str, rest: str) -> list[JSON]:
    """Return the words of a command: those of a JSON array, or the shell and the line for it."""
    words = _json_words(rest)
    if words is not None:
        return list(words)
    if not rest:
        raise StoreError(f"{name} requires at least one argument")
    return [*_SHELL, rest]


def _json_words(rest: str) -> list[str] | None:
    """Return the words of a JSON array, None for anything else."""
    if not rest.startswith("["):
        return None
    try:
        found: JSON = loads(rest)
    except (ValueError, RecursionError):
        return None  # to the shell `[` is a command like any other
    if not isinstance(found, list):
        return None
    if not all(isinstance(word, str) for word in found):
        raise StoreError("when using JSON array syntax, arrays must be comprised of strings only")
    return [str(word) for word in found]


def _set_health_flag(check: Object, name: str, value: str) -> None:
    fields = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod"}
    if name == "retries":
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise StoreError(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        if int(value) < 1:
            raise StoreError(f"--retries must be at least 1 (not {value})")
        check["Retries"] = int(value)
        return
    if name not in fields:
        raise StoreError(f"Unknown flag: {name}")
    length = parse_duration(value)
    if length is None:
        raise StoreError(f'time: invalid duration "{value}"')
    if length < MILLISECOND:
        raise StoreError(f'Interval "{name}" cannot be less than 1ms')
    check[fields[name]] = length
