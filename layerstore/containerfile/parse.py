"""The text of a Containerfile as typed instructions.

    containerfile = parse(text, "Containerfile")

This module alone decides what each instruction accepts.  An unknown instruction, flag or
option is an error that shows the file, the line number and the line; it is never ignored.
Variables are not expanded.

Source: the Dockerfile reference; buildkit `frontend/dockerfile/instructions/parse.go`.  The
error messages are buildkit's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from layerstore.containerfile.errors import ContainerfileError, Location, UnknownInstruction
from layerstore.containerfile.flags import Flags, Kind, suggestion
from layerstore.containerfile.grammar import LARGEST, Memo, Node, heredoc_name, parse_ast
from layerstore.containerfile.instructions import (
    NAMES,
    Add,
    Arg,
    Cmd,
    Command,
    Containerfile,
    Copy,
    Default,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Network,
    Onbuild,
    Pair,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Warned,
    Workdir,
)
from layerstore.containerfile.mounts import read_flag
from layerstore.errors import shown
from layerstore.oci.durations import MILLISECOND, parse_duration
from unionfs.light_typing import NamedTuple

_STAGE_NAME = r"[a-z][a-z0-9-_.]*"
_SYNTAX = r"\s*#\s*syntax\s*="
_NO_FLAGS: Mapping[str, Kind] = {}
_TRANSFER_FLAGS: Mapping[str, Kind] = {
    "chown": "text",
    "chmod": "text",
    "link": "truth",
    "exclude": "texts",
}
_HEALTH_TIMES = ("interval", "timeout", "start-period", "start-interval")


def parse(
    text: str | bytes, file: str = "Containerfile", memo: Memo | None = None
) -> Containerfile:
    """Return the instructions of `text`; `file` names it in errors.

    With `memo` a text that was parsed before is not parsed again.

    Raises ContainerfileError for a file that docker would refuse, and for one that does
    not begin with FROM, or with ARGs and FROM.
    """
    decoded = _decode(text, file)
    ast = parse_ast(decoded, file, memo)
    lines = decoded.split("\n")
    warnings = [
        Warned(Location(file, number, number, lines[number - 1]), note)
        for number, note in ast.warnings
        if number <= len(lines)
    ]
    warnings += _of_directives(lines, file)
    found = tuple(instruction_of(node) for node in ast.nodes)
    if not found:
        raise ContainerfileError(None, f"{shown(file)}: file with no instructions")
    first = next((one for one in found if not isinstance(one, Arg)), None)
    if first is None:
        raise ContainerfileError(None, f"{shown(file)}: no build stage: there is no FROM")
    if not isinstance(first, From):
        raise ContainerfileError(first.at, "no build stage in current context: FROM comes first")
    return Containerfile(file, found, ast.escape, tuple(warnings))


def parse_single(text: str, file: str) -> Instruction:
    """Return the one instruction of `text`, an ONBUILD trigger or a `--change`."""
    ast = parse_ast(text, file)
    if not ast.nodes:
        raise ContainerfileError(None, "file with no instructions")
    if len(ast.nodes) > 1:
        raise ContainerfileError(ast.nodes[1].at, "onbuild trigger should be a single expression")
    return instruction_of(ast.nodes[0])


def instruction_of(node: Node) -> Instruction:
    """Return the typed instruction of `node`; raises ContainerfileError."""
    return _MAKERS[node.name](_Request(node))


def _decode(text: str | bytes, file: str) -> str:
    if len(text) > LARGEST:
        raise ContainerfileError(None, f"{shown(file)} is larger than {LARGEST >> 20} MiB")
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        bad = text.split(b"\n")[line - 1].decode(errors="replace")
        raise ContainerfileError(
            Location(file, line, line, bad), "the line is not valid UTF-8"
        ) from None


def _of_directives(lines: list[str], file: str) -> list[Warned]:
    for number, line in enumerate(lines, 1):
        if not line.lstrip("\ufeff").strip().startswith("#"):
            break
        if re.match(_SYNTAX, line.lstrip("\ufeff"), re.IGNORECASE):
            at = Location(file, number, number, line)
            return [Warned(at, "no other frontend is loaded: the syntax directive has no effect")]
    return []


class _Request(NamedTuple):
    """A parsed instruction that is about to get its type."""

    node: Node

    @property
    def at(self) -> Location:
        return self.node.at

    @property
    def words(self) -> list[str]:
        return self.node.words

    def error(self, reason: str) -> ContainerfileError:
        return ContainerfileError(self.node.at, reason)

    def flags(self, kinds: Mapping[str, Kind] = _NO_FLAGS) -> Flags:
        return Flags(self.node.at, self.node.flags, kinds)

    def some(self) -> list[str]:
        if not self.node.words:
            raise self.error(f"{self.node.name} requires at least one argument")
        return self.node.words

    def one(self) -> str:
        self.flags()
        if len(self.node.words) != 1:
            raise self.error(f"{self.node.name} requires exactly one argument")
        return self.node.words[0]

    def command(self) -> Command:
        """Return the command line; an empty JSON array gives a command without words."""
        if not self.node.json and not "".join(self.node.words):
            raise self.error(f"{self.node.name} requires at least one argument")
        return Command(tuple(self.node.words), shell=not self.node.json)


def _from(request: _Request) -> Instruction:
    words = request.words
    stage = ""
    if len(words) == 3 and words[1].lower() == "as":
        stage = words[2].lower()
        if not re.fullmatch(_STAGE_NAME, stage):
            raise request.error(
                f'invalid name for build stage: "{shown(words[2])}", name can\'t start with a '
                "number or contain symbols"
            )
        if stage in ("scratch", "context"):
            raise request.error(f'the name "{stage}" is reserved and cannot be a stage\'s')
    elif len(words) != 1:
        raise request.error("FROM requires either one or three arguments")
    flags = request.flags({"platform": "text"})
    return From(request.at, words[0], stage, flags.text("platform"))


def _arg(request: _Request) -> Instruction:
    request.flags()
    defaults = []
    for word in request.some():
        name, equals, value = word.partition("=")
        if not name:
            raise request.error("ARG names can not be blank")
        defaults.append(Default(name, value if equals else None))
    return Arg(request.at, tuple(defaults))


def _run(request: _Request) -> Instruction:
    flags = request.flags({"mount": "texts", "network": "text", "security": "text"})
    network = flags.text("network", "default")
    chosen: Network = "none" if network == "none" else "host" if network == "host" else "default"
    if chosen != network:
        raise request.error(f'invalid network mode "{shown(network)}"')
    security = flags.text("security", "sandbox")
    if security not in ("sandbox", "insecure"):
        raise request.error(f'security "{shown(security)}" is not valid')
    if security == "insecure":
        raise request.error("--security=insecure is not supported: no RUN gets more privileges")
    mounts = tuple(read_flag(text, request.at) for text in flags.texts("mount"))
    return Run(request.at, request.command(), tuple(request.node.heredocs), mounts, chosen)


def _parts(request: _Request) -> tuple[tuple[str, ...], tuple[Heredoc, ...], str]:
    """Return the sources that are paths, the sources that are heredocs, and the destination."""
    name, words = request.node.name, request.words
    if len(words) < 2:
        raise request.error(
            f"{name} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    if heredoc_name(words[-1]) is not None:
        raise request.error(f"{name} cannot accept a heredoc as a destination")
    paths: list[str] = []
    documents: list[Heredoc] = []
    by_name = {document.name: document for document in request.node.heredocs}
    for word in words[:-1]:
        document = None if request.node.json else by_name.get(heredoc_name(word) or "")
        if document is not None:
            documents.append(document)
        else:
            paths.append(word)
    return tuple(paths), tuple(documents), words[-1]


_Copied = tuple[
    Location, tuple[str, ...], str, tuple[Heredoc, ...], str, str, bool, tuple[str, ...]
]


def _copied(request: _Request, flags: Flags) -> _Copied:
    """Return what COPY and ADD have in common, in the order of their fields."""
    sources, documents, destination = _parts(request)
    return (
        *(request.at, sources, destination, documents),
        *(flags.text("chown"), flags.text("chmod")),
        *(flags.truth("link"), flags.texts("exclude")),
    )


def _copy(request: _Request) -> Instruction:
    flags = request.flags({**_TRANSFER_FLAGS, "from": "text", "parents": "truth"})
    stage, parents = flags.text("from"), flags.truth("parents")
    return Copy(*_copied(request, flags), stage=stage, parents=parents)


def _add(request: _Request) -> Instruction:
    flags = request.flags(
        {**_TRANSFER_FLAGS, "checksum": "text", "unpack": "truth", "keep-git-dir": "truth"}
    )
    if "keep-git-dir" in flags:
        raise request.error("--keep-git-dir is not supported: ADD takes no git repositories")
    unpack = flags.truth("unpack") if "unpack" in flags else None
    return Add(*_copied(request, flags), checksum=flags.text("checksum"), unpack=unpack)


def _pairs(request: _Request) -> tuple[Pair, ...]:
    request.flags()
    words = request.some()
    names = words[::3]
    if not all(names):
        raise request.error(f"{request.node.name} names can not be blank")
    return tuple(Pair(name, value) for name, value in zip(names, words[1::3], strict=True))


def _expose(request: _Request) -> Instruction:
    request.flags()
    return Expose(request.at, tuple(sorted(request.some())))


def _volume(request: _Request) -> Instruction:
    request.flags()
    paths = tuple(word.strip() for word in request.some())
    if not all(paths):
        raise request.error("VOLUME specified can not be an empty string")
    return Volume(request.at, paths)


def _shell(request: _Request) -> Instruction:
    request.flags()
    words = request.some()
    if not request.node.json:
        raise request.error("SHELL requires the arguments to be in JSON form")
    return Shell(request.at, tuple(words))


def _onbuild(request: _Request) -> Instruction:
    request.flags()
    # The grammar does not split a trigger into words: it is kept as it is written.
    trigger = request.at.text.strip()[len("ONBUILD") :].strip()
    name = trigger.partition(" ")[0].partition("\t")[0].upper()
    if not trigger:
        raise request.error("ONBUILD requires at least one argument")
    if name == "ONBUILD":
        raise request.error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if name in ("FROM", "MAINTAINER"):
        raise request.error(f"{name} isn't allowed as an ONBUILD trigger")
    if name not in NAMES:
        raise UnknownInstruction(request.at, name, suggestion(name, NAMES))
    if name in ("RUN", "COPY", "ADD") and any(map(heredoc_name, trigger.split())):
        raise request.error("a heredoc in ONBUILD is not supported: use `sh -c` or a file")
    return Onbuild(request.at, trigger)


def _healthcheck(request: _Request) -> Instruction:
    words = request.some()
    kind = words[0].upper()
    if kind == "NONE":
        request.flags()
        if len(words) > 1:
            raise request.error("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(request.at, ("NONE",))
    kinds: dict[str, Kind] = dict.fromkeys(_HEALTH_TIMES, "text")
    flags = request.flags({**kinds, "retries": "text"})
    if kind != "CMD":
        raise request.error(f'Unknown type "{shown(kind)}" in HEALTHCHECK (try CMD)')
    command = words[1:]
    if not command or not "".join(command):
        raise request.error("Missing command after HEALTHCHECK CMD")
    interval, timeout, period, start = (
        _interval(request, name, flags.text(name)) for name in _HEALTH_TIMES
    )
    retries = flags.text("retries", "0")
    if not re.fullmatch(r"[-+]?[0-9]{1,9}", retries):
        raise request.error(f'strconv.ParseInt: parsing "{shown(retries)}": invalid syntax')
    if int(retries) < 0:
        raise request.error(f"--retries cannot be negative ({int(retries)})")
    test = ("CMD" if request.node.json else "CMD-SHELL", *command)
    return Healthcheck(request.at, test, interval, timeout, period, start, int(retries))


def _interval(request: _Request, name: str, text: str) -> int:
    """Return the value of a flag in ns, 0 if the flag is not given."""
    if not text:
        return 0
    length = 0 if text == "0" else parse_duration(text)
    if length is None:
        raise request.error(f'time: invalid duration "{shown(text)}"')
    if 0 < length < MILLISECOND:
        raise request.error(f'Interval "{name}" cannot be less than 1ms')
    return length


def _cmd(request: _Request) -> Instruction:
    request.flags()
    return Cmd(request.at, request.command())


def _entrypoint(request: _Request) -> Instruction:
    request.flags()
    return Entrypoint(request.at, request.command())


_MAKERS: Mapping[str, Callable[[_Request], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": lambda request: Env(request.at, _pairs(request)),
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda request: Label(request.at, _pairs(request)),
    "MAINTAINER": lambda request: Maintainer(request.at, request.one()),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda request: Stopsignal(request.at, request.one()),
    "USER": lambda request: User(request.at, request.one()),
    "VOLUME": _volume,
    "WORKDIR": lambda request: Workdir(request.at, request.one()),
}
