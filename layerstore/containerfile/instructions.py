"""The instructions of a Containerfile as typed values.

`parse` makes them with their words as written; `expand` returns the same types with
variables replaced and quotes removed.  Every instruction knows its place.

Source: the Dockerfile reference, docs.docker.com/reference/dockerfile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from layerstore.containerfile.errors import Place

Network = Literal["default", "none", "host"]
Sharing = Literal["shared", "private", "locked"]


class Command(NamedTuple):
    """A command line: `words` of the exec form, or one word that a shell reads."""

    words: tuple[str, ...]
    shell: bool


class Heredoc(NamedTuple):
    """A document within the file: its name, its content, and whether variables in it expand.

    The content is as a reader sees it: leading tabs are gone if it was begun by `<<-`.
    `raw` is it with them.
    """

    name: str
    content: str
    expand: bool
    raw: str = ""


class Pair(NamedTuple):
    """`name=value` of ENV and LABEL."""

    name: str
    value: str


class Default(NamedTuple):
    """A name of ARG with its default, None where it has none."""

    name: str
    value: str | None


# -- mounts of RUN --


class MountFlag(NamedTuple):
    """`--mount=…` as written: the options in order, with None for an option without `=`.

    `stage` is its `from`, in which no variable is allowed, and "" without one.
    """

    text: str
    options: tuple[tuple[str, str | None], ...]
    stage: str


@dataclass(frozen=True, slots=True)
class BindMount:
    """`type=bind`: `source` of the stage, image or, by default, the context, at `target`."""

    target: str
    source: str = ""
    stage: str = ""
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class CacheMount:
    """`type=cache`: a directory that outlives the build; `id` names it.

    `source` of `stage` is its first content.  `mode`, `uid` and `gid` are those of a new one.
    """

    target: str
    id: str
    sharing: Sharing = "shared"
    source: str = ""
    stage: str = ""
    read_only: bool = False
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """`type=tmpfs`: an empty tmpfs of at most `size` bytes, 0 for no limit of its own."""

    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class SecretMount:
    """`type=secret`: the secret `id` as the file `target`, or the variable `variable`, or both.

    A secret that was not given is an error if it is `required`, and is left out otherwise.
    """

    id: str
    target: str = ""
    variable: str = ""
    required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


Mount = BindMount | CacheMount | TmpfsMount | SecretMount


# -- instructions --


@dataclass(frozen=True, slots=True)
class From:
    """FROM: `image` is an image, an earlier stage or `scratch`; `stage` is the name after AS."""

    at: Place
    image: str
    stage: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Arg:
    """ARG, before the first FROM or in a stage."""

    at: Place
    defaults: tuple[Default, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """RUN; `mounts` is empty until the instruction is expanded."""

    at: Place
    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    flags: tuple[MountFlag, ...] = ()
    network: Network = "default"
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True)
class Transfer:
    """What COPY and ADD have in common.

    `documents` are the sources written as heredocs; a source is a path or, for ADD, a URL.
    `owner` is `user[:group]`, `mode` octal or symbolic, "" where not given.
    """

    at: Place
    sources: tuple[str, ...]
    destination: str
    documents: tuple[Heredoc, ...] = ()
    owner: str = ""
    mode: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy(Transfer):
    """COPY; `stage` is `--from`: a stage, its index, or an image; "" for the context."""

    stage: str = ""
    parents: bool = False


@dataclass(frozen=True, slots=True)
class Add(Transfer):
    """ADD; `unpack` is None where archives of the context are unpacked, and downloads not."""

    checksum: str = ""
    unpack: bool | None = None


@dataclass(frozen=True, slots=True)
class Workdir:
    """WORKDIR."""

    at: Place
    path: str


@dataclass(frozen=True, slots=True)
class Env:
    """ENV."""

    at: Place
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """LABEL."""

    at: Place
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class User:
    """USER: `user[:group]`."""

    at: Place
    user: str


@dataclass(frozen=True, slots=True)
class Volume:
    """VOLUME."""

    at: Place
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expose:
    """EXPOSE: the words of the line; each may expand to several ports."""

    at: Place
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopsignal:
    """STOPSIGNAL."""

    at: Place
    signal: str


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """HEALTHCHECK: docker's `Test`; times are in ns, 0 for docker's default."""

    at: Place
    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Shell:
    """SHELL."""

    at: Place
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Onbuild:
    """ONBUILD: the text of the instruction that a build on top of the image begins with."""

    at: Place
    trigger: str


@dataclass(frozen=True, slots=True)
class Cmd:
    """CMD."""

    at: Place
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """ENTRYPOINT."""

    at: Place
    command: Command


@dataclass(frozen=True, slots=True)
class Maintainer:
    """MAINTAINER."""

    at: Place
    name: str


Instruction = (
    From
    | Arg
    | Run
    | Copy
    | Add
    | Workdir
    | Env
    | Label
    | User
    | Volume
    | Expose
    | Stopsignal
    | Healthcheck
    | Shell
    | Onbuild
    | Cmd
    | Entrypoint
    | Maintainer
)


NAMES = tuple(kind.__name__.upper() for kind in get_args(Instruction))


class Warned(NamedTuple):
    """Something in a file that is accepted and probably not meant."""

    at: Place
    text: str


@dataclass(frozen=True, slots=True)
class Containerfile:
    """A parsed file: its instructions, the first of them ARG or FROM, and its escape character."""

    file: str
    instructions: tuple[Instruction, ...]
    escape: str
    warnings: tuple[Warned, ...] = ()
