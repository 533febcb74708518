"""Evaluate a stage before it runs: turn each instruction into a step, with its cache keys.

Decided here and only here: which instructions change files, and how a step is looked up.
A COPY from a stage has two keys; the first can be computed without a file of that stage.
The code that does steps is imported only if a step is done, since that import takes longer
than the whole evaluation.

Threading: one thread.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence

from layerstore.build.plan import Stage
from layerstore.build.source_digest import Digester, Memo, SourceDigest
from layerstore.build.sources import DownloadSource, Sources, digest_sources, find_sources
from layerstore.build.tree import Tree
from layerstore.containerfile.errors import ContainerfileError, located
from layerstore.containerfile.instructions import (
    Add,
    BindMount,
    CacheMount,
    Copy,
    Instruction,
    Mount,
    Run,
    SecretMount,
    Workdir,
)
from layerstore.containerfile.stage_state import StageState
from layerstore.errors import StoreError, shown
from layerstore.light_json import dumps
from layerstore.oci.digest import Digest
from layerstore.oci.documents import Object
from layerstore.oci.run_config import of_image
from mount_tools.build import keys
from mount_tools.build.keys import Definition
from mount_tools.build.watch import Shown
from unionfs.light_typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from layerstore.build.download import Downloads
    from mount_tools.build.tasks import Surroundings, Work


class StepError(StoreError):
    """A step has failed.  Holds the exit status of its command, or 0 if no command failed."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Look(NamedTuple):
    """The configuration of the shell that lets the user look into a step that failed."""

    environment: list[str]
    user: str
    workdir: str


class Step:
    """A step.  `work` is None if it changes no file; `look` is used if it fails.

    `created_by` is "" until `settle` has found the sources.  `run` is the instruction of a RUN,
    with its variables expanded.  `descriptors` are files that `work` reads, `place` is the file
    and the line of the instruction, `author` that of a MAINTAINER up to it, and `epoch_ns`
    SOURCE_DATE_EPOCH.
    """

    def __init__(
        self,
        shown: Shown,
        created_by: str,
        definitions: list[Definition],
        work: Callable[[Surroundings], Work] | None,
        look: Look,
        *,
        settle: Callable[[Step], None] | None = None,
        run: Run | None = None,
    ) -> None:
        self.shown = shown
        self.created_by = created_by
        self.definitions = definitions
        self.work = work
        self.look = look
        self.settle = settle
        self.run = run
        self.place = self.author = ""
        self.descriptors: list[int] = []
        self.epoch_ns: int | None = None

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """What its `--mount` say."""
        return () if self.run is None else self.run.mounts

    @property
    def mounts_from(self) -> list[str]:
        """The names of stages and images in its `--mount=from`."""
        used = (mount for mount in self.mounts if isinstance(mount, BindMount | CacheMount))
        return [mount.stage for mount in used if mount.stage]

    def keys(self, below: Digest | None) -> list[str]:
        """Return the keys of the step on top of the chain `below`."""
        return [definition.key(below, self.epoch_ns) for definition in self.definitions]


class Origins(Protocol):
    """The stages and images to copy from, as the builder knows them."""

    def identity(self, name: str) -> str:
        """Return a text that identifies the tree of `--from=name` and its content."""

    def tree(self, name: str) -> Tree:
        """Return the tree; mount it if it is not mounted yet."""


class GivenFiles(NamedTuple):
    """The files that a build is given: its context, whose digests `memo` keeps, and downloads."""

    context: Tree
    memo: Memo
    downloads: Callable[[], Downloads]


class Evaluation:
    """One stage, evaluated instruction by instruction."""

    def __init__(
        self,
        stage: Stage,
        state: StageState,
        files: GivenFiles,
        origins: Origins,
        number: Callable[[str, bool], Shown],
        note: Callable[[str], None],
        surroundings: Sequence[str] = (),
        epoch_ns: int | None = None,
    ) -> None:
        """`number` numbers the text of a step; its second argument says whether the step counts.
        `note` shows how far the digests of many files are.

        `surroundings` are what the command line says of every RUN, as its network; `epoch_ns` is
        SOURCE_DATE_EPOCH.
        """
        self._surroundings = surroundings
        self._epoch_ns = epoch_ns
        self.state = state
        self._stage = stage
        self._files = files
        self._origins = origins
        self._number = number
        self._note = note

    def steps(self) -> Iterator[Step]:
        """Yield the steps in their order; `state` is always the state after the yielded step.

        Raises ContainerfileError, and StoreError if a source cannot be read.
        """
        for one in self._stage.triggers:
            with located(one.at):
                step = self._step(one, self._number(f"ONBUILD {one.at.text}", False))
            yield self._placed(step, str(one.at))
        for one in self._stage.instructions:
            with located(one.at):
                step = self._step(one, self._number(one.at.text.strip(), True))
            yield self._placed(step, str(one.at))

    def _placed(self, step: Step, place: str) -> Step:
        """Return the step, with what it has of its place among the others."""
        step.place, step.author, step.epoch_ns = place, self.state.author, self._epoch_ns
        return step

    def _step(self, one: Instruction, shown_as: Shown) -> Step:
        before = self.state.config
        one = self.state.expand(one)
        created_by = self.state.apply(one)
        look = self._look()
        if isinstance(one, Run):
            return self._run(one, shown_as, look)
        if isinstance(one, Copy | Add):
            return self._copy(one, shown_as, look)
        assert created_by is not None, "all other instructions change the configuration"
        if isinstance(one, Workdir):
            path = self.state.workdir
            definition = keys.of_workdir(path, created_by, before)

            def work(around: Surroundings) -> Work:
                from mount_tools.build.tasks import workdir_task

                return workdir_task(path, around)

            return Step(shown_as, created_by, [definition], work, look)
        return Step(shown_as, created_by, [keys.of_config(before, created_by)], None, look)

    def _digester(self, tree: Tree, one: Instruction) -> Digester:
        def tick(count: int) -> None:
            self._note(f"{shown(one.at.text.strip())}: {count:,} files are read")

        # Digests of files in a mount are not kept: the kernel reuses the device numbers of mounts.
        return Digester(tree, self._files.memo if tree is self._files.context else None, tick)

    def label_step(self, name: str, value: str) -> Step:
        """Return the step that sets one label of `--label`, after those of `steps`."""
        before = self.state.config
        created_by = self.state.label(name, value)
        shown_as = self._number(f"LABEL {name}={value}", True)
        definition = keys.of_config(before, created_by)
        return self._placed(Step(shown_as, created_by, [definition], None, self._look()), "")

    def _look(self) -> Look:
        config = self.state.run_config
        return Look(config.env, config.user, self.state.workdir)

    # -- RUN --

    def _run(self, run: Run, shown_as: Shown, look: Look) -> Step:
        program = self.state.program(run)
        created_by = self.state.run_history(run)
        seen: dict[str, bytes] = {}
        around = [*self._surroundings, *(self._mounted(run, mount, seen) for mount in run.mounts)]
        config = self.state.run_config
        definition = keys.of_run(run, program, config, created_by, around)
        look = look._replace(environment=program.environment)

        def work(around: Surroundings) -> Work:
            from mount_tools.build.run_task import run_task

            return run_task(run, program, look.user, look.workdir, seen, around)

        return Step(shown_as, created_by, [definition], work, look, run=run)

    def _mounted(self, run: Run, mount: Mount, seen: dict[str, bytes]) -> str:
        """Return the part of a mount that the key depends on, without the value of a secret.

        For a source in the context, `seen` gets what the digest was computed of.
        """
        if isinstance(mount, BindMount):
            if mount.stage:
                content = self._origins.identity(mount.stage)
            else:
                digest = self._content(run, mount.source)
                content, seen[mount.source] = digest.key.hex(), digest.seen
            return dumps(["bind", mount.target, mount.source, mount.read_only, content])
        if isinstance(mount, CacheMount):
            first = self._origins.identity(mount.stage) if mount.stage else ""
            return dumps(["cache", mount.target, mount.id, mount.read_only, first, mount.source])
        if isinstance(mount, SecretMount):
            owner = (mount.mode, mount.uid, mount.gid)
            return dumps(["secret", mount.id, mount.target, mount.variable, *owner])
        return dumps(["tmpfs", mount.target, mount.size])

    def _content(self, run: Run, path: str) -> SourceDigest:
        tree = self._files.context
        found = tree.find(path.lstrip("/"))
        if found is None:
            raise ContainerfileError(
                run.at, f"failed to compute cache key: {shown(path)}: not found in the context"
            )
        digester = self._digester(tree, run)
        if not stat.S_ISDIR(found.st.st_mode):
            return digester.file(found.path, found.st)
        return digester.directory(tree.walk(found.path))

    # -- COPY and ADD --

    def _copy(self, one: Copy | Add, shown_as: Shown, look: Look) -> Step:
        workdir = self.state.workdir
        created_by = self.state.copy_history(one)
        name = one.stage if isinstance(one, Copy) else ""
        found: list[tuple[Sources, list[bytes]]] = []

        @located(one.at)
        def settle(step: Step) -> None:
            tree = self._origins.tree(name) if name else self._files.context
            sources = find_sources(one, tree)
            if isinstance(one, Add) and sources.remote:
                sources = self._files.downloads().fetch(one, sources)
                step.descriptors += [
                    source.fd for source in sources.found if isinstance(source, DownloadSource)
                ]
            docker, key, seen = digest_sources(sources, self._digester(tree, one))
            found.append((sources, seen))
            step.created_by = created_by(docker)
            step.definitions.append(keys.of_copy(one, workdir, key.hex()))
            step.settle = None

        def work(around: Surroundings) -> Work:
            from mount_tools.build.tasks import copy_task

            sources, seen = found[-1]
            return copy_task(one, sources, seen, workdir, around)

        definitions = []
        if name:
            identity = f"{self._origins.identity(name)} {dumps(one.sources)}"
            definitions.append(keys.of_copy(one, workdir, identity))
        step = Step(shown_as, "", definitions, work, look, settle=settle)
        if not name:
            settle(step)
        return step


def look_config(look: Look, base: Object) -> Object:
    """Return the configuration of a container whose shell shows a step that failed.

    `base` is that of the stage, and some of it a stranger's image may have brought.
    """
    return {
        **{name: value for name, value in of_image(base).items() if name != "Entrypoint"},
        "Cmd": ["/bin/sh"],
        "Env": list(look.environment),
        "User": look.user,
        "WorkingDir": look.workdir,
        "Tty": True,
        "OpenStdin": True,
    }
