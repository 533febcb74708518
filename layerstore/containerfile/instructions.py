"""The instructions of a Containerfile as typed values.

`parse` creates them with their words as written; `expand` returns the same types with
variables replaced and quotes removed.  `at` is the place of an instruction in its file.
They are named tuples because a dataclass takes five times as long to import.

Source: the Dockerfile reference, docs.docker.com/reference/dockerfile.
"""

from __future__ import annotations

from layerstore.containerfile.errors import Location
from unionfs.light_typing import Literal, NamedTuple

Network = Literal["default", "none", "host"]
Sharing = Literal["shared", "private", "locked"]


class Command(NamedTuple):
    """A command line: `words` of the exec form, or one word that a shell reads."""

    words: tuple[str, ...]
    shell: bool


class Heredoc(NamedTuple):
    """A document within the file: its name, its content, and whether variables in it expand.

    After `<<-` the content has no leading tabs.  `raw` is the content with them.
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
    """A name of ARG with its default, None if it has none."""

    name: str
    value: str | None


# -- mounts of RUN --


class MountFlag(NamedTuple):
    """`--mount=…` as written: the options in order; the value is None without a `=`.

    `stage` is the value of `from`, which may contain no variable; "" without `from`.
    """

    text: str
    options: tuple[tuple[str, str | None], ...]
    stage: str


class BindMount(NamedTuple):
    """`type=bind`: `source` of the stage, image or, by default, the context, at `target`."""

    target: str
    source: str = ""
    stage: str = ""
    read_only: bool = True


class CacheMount(NamedTuple):
    """`type=cache`: a directory that outlives the build; `id` names it.

    A new one is filled from `source` in `stage` and gets `mode`, `uid` and `gid`.
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


class TmpfsMount(NamedTuple):
    """`type=tmpfs`: an empty tmpfs of at most `size` bytes; 0 sets no limit."""

    target: str
    size: int = 0


class SecretMount(NamedTuple):
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


class From(NamedTuple):
    """FROM: `image` is an image, an earlier stage or `scratch`; `stage` is the name after AS."""

    at: Location
    image: str
    stage: str = ""
    platform: str = ""


class Arg(NamedTuple):
    """ARG, before the first FROM or in a stage."""

    at: Location
    defaults: tuple[Default, ...]


class Run(NamedTuple):
    """RUN; `mounts` is empty until the instruction is expanded."""

    at: Location
    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    flags: tuple[MountFlag, ...] = ()
    network: Network = "default"
    mounts: tuple[Mount, ...] = ()


class Copy(NamedTuple):
    """COPY.

    `documents` are the sources written as heredocs.  `owner` is `user[:group]`, `mode` octal
    or symbolic, "" where not given.  `stage` is `--from`: a stage, its index, or an image; ""
    for the context.
    """

    at: Location
    sources: tuple[str, ...]
    destination: str
    documents: tuple[Heredoc, ...] = ()
    owner: str = ""
    mode: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()
    stage: str = ""
    parents: bool = False


class Add(NamedTuple):
    """ADD: a source is a path or a URL; the rest is as in COPY.

    With `unpack` None, archives of the context are unpacked and downloads are not.
    """

    at: Location
    sources: tuple[str, ...]
    destination: str
    documents: tuple[Heredoc, ...] = ()
    owner: str = ""
    mode: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    unpack: bool | None = None


class Workdir(NamedTuple):
    """WORKDIR."""

    at: Location
    path: str


class Env(NamedTuple):
    """ENV."""

    at: Location
    pairs: tuple[Pair, ...]


class Label(NamedTuple):
    """LABEL."""

    at: Location
    pairs: tuple[Pair, ...]


class User(NamedTuple):
    """USER: `user[:group]`."""

    at: Location
    user: str


class Volume(NamedTuple):
    """VOLUME."""

    at: Location
    paths: tuple[str, ...]


class Expose(NamedTuple):
    """EXPOSE: the words of the line; each may expand to several ports."""

    at: Location
    ports: tuple[str, ...]


class Stopsignal(NamedTuple):
    """STOPSIGNAL."""

    at: Location
    signal: str


class Healthcheck(NamedTuple):
    """HEALTHCHECK: docker's `Test`; times are in ns, 0 for docker's default."""

    at: Location
    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Shell(NamedTuple):
    """SHELL."""

    at: Location
    words: tuple[str, ...]


class Onbuild(NamedTuple):
    """ONBUILD: the text of an instruction that a build from this image runs first."""

    at: Location
    trigger: str


class Cmd(NamedTuple):
    """CMD."""

    at: Location
    command: Command


class Entrypoint(NamedTuple):
    """ENTRYPOINT."""

    at: Location
    command: Command


class Maintainer(NamedTuple):
    """MAINTAINER."""

    at: Location
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


NAMES = tuple(kind.__name__.upper() for kind in Instruction.__args__)


class Warned(NamedTuple):
    """A warning: the file is valid, but the author probably meant something else."""

    at: Location
    text: str


class Containerfile(NamedTuple):
    """A parsed file: its instructions, which begin with ARG or FROM, and its escape character."""

    file: str
    instructions: tuple[Instruction, ...]
    escape: str
    warnings: tuple[Warned, ...] = ()
