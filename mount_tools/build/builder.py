"""The builder: it starts stages, takes what they have made, and records the image.

    Builder(...).build()    one build, from its plan to the image's row

A stage is evaluated when the stages that it needs are done.  Its steps are looked up in the
cache one after the other.  The first that is not cached, and all after it, are done by a
process of the stage.  A stage whose steps are all cached has no process and no mount.

Decided here and only here: in which order this happens.  When `build` returns or raises, all
its processes have ended and nothing is mounted any more.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType

from layerstore.build.cache import BuildCache, StepRow
from layerstore.build.plan import FromImage, FromNothing, FromStage, Plan, Source, Stage
from layerstore.build.tree import Tree
from layerstore.containerfile.errors import located
from layerstore.containerfile.stage_state import StageState
from layerstore.errors import StoreError
from layerstore.images.images import Image
from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import ImageConfig
from layerstore.oci.platform import Platform
from layerstore.store import Store
from mount_tools.build.cache_from import find_in_images
from mount_tools.build.evaluate import Evaluation, GivenFiles, Step
from mount_tools.build.made import Made, Origin
from mount_tools.build.stage_container import new_container
from mount_tools.build.watch import Shown, Watcher
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mount_tools.build.at_work import AtWork
    from mount_tools.build.packer import DoneStep
    from mount_tools.build.stage import Task
    from mount_tools.build.stage_process import StageProcess
    from mount_tools.container.rights import Rights


class Settings(NamedTuple):
    """The settings of a build, besides its Containerfile and context.

    `find_image` returns an image by its name and the platform of its FROM, and may pull it;
    `epoch_ns` is SOURCE_DATE_EPOCH, `cache_from` are images that serve as cache.  `network` is
    that of a RUN that does not choose one, `extra_hosts` are lines `name:address` for its
    /etc/hosts, `rights` its rights, None for the usual ones.  `remove` says that containers are
    removed when the build has succeeded, `force_remove` that the one of a failed step is removed
    too.  With `squash` the layers that are made become one.
    """

    find_image: Callable[[str, Platform | None], Image]
    secrets: Mapping[str, bytes] = MappingProxyType({})
    labels: Sequence[tuple[str, str]] = ()
    use_cache: bool = True
    cache_from: Sequence[ImageConfig] = ()
    epoch_ns: int | None = None
    platform: Platform | None = None
    network: str = "default"
    extra_hosts: tuple[str, ...] = ()
    remove: bool = True
    force_remove: bool = False
    squash: bool = False
    rights: Rights | None = None

    @property
    def surroundings(self) -> list[str]:
        """What a RUN depends on beside its own words; empty if nothing is unusual."""
        found = [] if self.network != "none" else ["network none"]
        found += (f"host {line}" for line in self.extra_hosts)
        if self.rights is not None:
            capabilities, *others = self.rights
            found.append(f"rights {sorted(capabilities)} {others}")
        return found


class Builder:
    """One build."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        files: GivenFiles,
        settings: Settings,
        watcher: Watcher,
        cache: BuildCache,
    ) -> None:
        self._store = store
        self._plan = plan
        self._files = files
        self._settings = settings
        self._watcher = watcher
        self._cache = cache
        self._made: dict[int, Made] = {}
        self._at_work: dict[int, AtWork] = {}
        self._origins: dict[Source, Origin] = {}
        self._processes: list[StageProcess] = []
        self._triggered: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._steps = 0
        self._succeeded = False

    def build(self) -> Image:
        """Build, and return the image, which has no name yet.

        Raises ContainerfileError, StepError and StoreError.  The caller holds a work lease.
        """
        try:
            self._count()
            self._preamble()
            while self._plan.target.index not in self._made:
                for stage in self._plan.ready(self._made, self._at_work):
                    self._begin(stage)
                if self._at_work:
                    self._wait()
            image = self._publish(self._made[self._plan.target.index])
            self._succeeded = True
            return image
        except BaseException:
            for process in self._processes:
                process.kill()
            raise
        finally:
            self._end()

    def _count(self) -> None:
        number = len(self._plan.preamble)
        for stage in self._plan.needed:
            self._numbers[stage.index] = number + 1
            number += 1 + len(stage.instructions)
        self._steps = self._plan.steps + len(self._settings.labels)

    def _preamble(self) -> None:
        first = self._plan.needed[0].index
        for number, arg in enumerate(self._plan.preamble, 1):
            step = Shown(number, self._steps, first, "", arg.at.text.strip())
            self._watcher.step_began(step)
            self._watcher.step_finished(step, 0, "")

    # -- beginning a stage --

    def _begin(self, stage: Stage) -> None:
        number = self._numbers[stage.index]
        shown = self._shown(stage, number, stage.at.text.strip())
        start = time.monotonic()
        with located(stage.at):
            made = self._base(stage.base)
        config = made.base.config if made.base is not None else {}
        if isinstance(stage.base, FromStage):
            before = self._made[stage.base.index].state
            assert before is not None
            config = before.config
        state = StageState(config, self._plan.arguments.stage(), self._plan.escape)
        made.state = state
        if state.triggers and stage.index not in self._triggered:
            self._triggered.add(stage.index)
            self._plan = self._plan.with_triggers(stage, state.triggers)
            self._count()
            return  # it may have to wait for further stages now
        self._watcher.step_began(shown)
        base = stage.base
        id_shown = made.image.short if isinstance(base, FromImage) else made.shown_id
        if isinstance(base, FromNothing):
            id_shown = ""
        self._watcher.step_finished(shown, time.monotonic() - start, id_shown)
        if state.triggers:
            count = len(state.triggers)
            self._watcher.note(f"# Executing {count} build trigger{'s' if count > 1 else ''}")
        self._evaluate(stage, made, state)

    def _base(self, source: Source) -> Made:
        """Return what the stage begins with, as a copy, since the stage adds to it."""
        match source:
            case FromStage(index):
                below = self._made[index]
                copied = Made(below.base, below.chain, below.name, below.image)
                copied.inherit(below.diff_ids, below.history)
                return copied
            case FromImage(name, platform):
                image = self._settings.find_image(name, platform)
                if image.top is not None:
                    self._store.layers.need(image.top)
                config = self._store.images.config(image)
                made = Made(config, image.top, name, image.id)
                made.inherit(config.diff_ids, config.history)
                return made
            case FromNothing():
                return Made(None, None, "scratch", sha256_digest(b""))

    def _shown(self, stage: Stage, number: int, text: str) -> Shown:
        return Shown(number, self._steps, stage.index, stage.name, text)

    def _evaluate(self, stage: Stage, made: Made, state: StageState) -> None:
        counter = self._numbers[stage.index]

        def number(text: str, counts: bool) -> Shown:
            nonlocal counter
            counter += counts
            return self._shown(stage, counter, text)

        origins = _OfStage(self, stage)
        evaluation = Evaluation(
            *(stage, state, self._files, origins, number),
            self._watcher.note,
            self._settings.surroundings,
            self._settings.epoch_ns,
        )
        left: list[Step] = []
        for step in evaluation.steps():
            if left or not self._take_cached(made, step):
                left.append(step)
        if stage is self._plan.target:
            for name, value in self._settings.labels:
                label = evaluation.label_step(name, value)
                if left or not self._take_cached(made, label):
                    left.append(label)
        if not self._cache.hold(made.chain):
            raise StoreError("layers of the build cache were removed during the build; build again")
        for step in left:
            if step.settle is not None:
                step.settle(step)
        if not any(step.work for step in left):
            self._record_all(made, left)
            self._finish(stage, made)
            return
        self._start(stage, made, left, origins)

    def _take_cached(self, made: Made, step: Step) -> bool:
        """Add the step to `made` if it is cached; tell whether it is."""
        if not self._settings.use_cache:
            return False
        found = self._find(step, made)
        if found is None:
            return False
        made.chain = found.chain
        made.take(found.created_ns, found.created_by, found.diff_id, step.author)
        self._watcher.step_began(step.shown)
        self._watcher.step_cached(step.shown, made.shown_id)
        return True

    def _find(self, step: Step, made: Made) -> StepRow | None:
        found = None
        for key in step.keys(made.chain):
            found = self._cache.find(key)
            if found is not None:
                return found
        if step.settle is not None:
            step.settle(step)
            found = self._cache.find(step.keys(made.chain)[-1])
        if found is None and self._settings.cache_from and not step.mounts:
            settings = self._settings
            found = find_in_images(settings.cache_from, made, step.created_by, settings.epoch_ns)
            if found is not None and not self._cache.hold(found.chain):
                return None
        return found

    def _record_all(self, made: Made, steps: Sequence[Step]) -> None:
        """Record steps that change no file."""
        with self._store.database.transaction():
            for step in steps:
                self._watcher.step_began(step.shown)
                created = self._clock()
                for key in step.keys(made.chain):
                    self._cache.keep(key, StepRow(created, step.created_by, None, made.chain))
                made.take(created, step.created_by, None, step.author)
                self._watcher.step_finished(step.shown, 0, "")

    def _clock(self) -> int:
        epoch = self._settings.epoch_ns
        return time.time_ns() if epoch is None else epoch

    # -- a stage at work --

    def _start(self, stage: Stage, made: Made, steps: list[Step], origins: _OfStage) -> None:
        from mount_tools.build.at_work import AtWork

        process = self._process(made, steps, origins.roots(steps), self._exports(stage))
        self._at_work[stage.index] = AtWork(
            stage, made, steps, process, steps[0], self._store, self._watcher
        )

    def _exports(self, stage: Stage) -> int:
        """Return how many descriptors of its root the stages that copy from it need.

        If its mount shows more than its layers do, they get a mount of its layers instead.
        """
        users = [one for one in self._plan.needed if stage.index in one.needs]
        return len(users) + 1 if users else 0

    def _process(
        self, made: Made, steps: Sequence[Step], roots: dict[str, int], exports: int
    ) -> StageProcess:
        from mount_tools.build.stage_process import StageOrder, StageProcess

        container = new_container(self._store, made.chain, made.image, made.name, {})
        order = StageOrder(
            partial(self._tasks, steps, roots, Path(container.directory)),
            partial(self._record, steps),
            self._clock,
            self._settings.epoch_ns,
            exports,
            self._descriptors(steps, roots),
            self._settings.extra_hosts,
        )
        process = StageProcess(self._store, container, order)
        self._processes.append(process)
        return process

    def _tasks(
        self, steps: Sequence[Step], roots: dict[str, int], directory: Path, output: int
    ) -> list[Task]:
        """Return what the process of a stage does, printing to `output`."""
        from mount_tools.build.sources import Reached
        from mount_tools.build.stage import Task
        from mount_tools.build.tasks import Surroundings

        settings = self._settings
        around = Surroundings(
            Reached(self._files.context, roots, directory),
            output,
            self._store.build_caches,
            settings.secrets,
            settings.epoch_ns,
            settings.network,
            settings.rights,
        )
        return [
            Task(number, None if step.work is None else step.work(around), step.run is not None)
            for number, step in enumerate(steps)
        ]

    def _record(self, steps: Sequence[Step], store: Store, done: DoneStep) -> None:
        """Add a packed step to the build cache; the packer calls this in its transaction."""
        step = steps[done.step]
        row = StepRow(done.created_ns, step.created_by, done.diff_id, done.chain)
        for key in step.keys(done.below):
            self._cache.keep(key, row)

    def _descriptors(self, steps: Sequence[Step], roots: dict[str, int]) -> list[int]:
        """Return the descriptors that the process of a stage needs for its steps."""
        return [
            self._files.context.fd,
            *roots.values(),
            *(fd for step in steps for fd in step.descriptors),
            *(origin.roots[0] for origin in self._origins.values() if origin.roots),
        ]

    def mount(self, source: Source) -> Origin:
        """Return the stage or image to copy from, with its root mounted."""
        origin = self.origin(source)
        if not origin.roots:
            made = self._base(source)
            users = sum(source in one.sources.values() for one in self._plan.needed)
            process = self._process(made, (), {}, users + 1)
            origin.roots = process.exported()
        return origin

    def origin(self, source: Source) -> Origin:
        """Return the stage or image to copy from; its root may not be mounted yet."""
        if source not in self._origins:
            chain = (
                self._made[source.index].chain
                if isinstance(source, FromStage)
                else self._base(source).chain
            )
            self._origins[source] = Origin(chain)
        return self._origins[source]

    def _wait(self) -> None:
        """Wait until a stage at work sends a message or output, and handle it."""
        from mount_tools.build.at_work import wait

        wait(list(self._at_work.values()))
        for at_work in list(self._at_work.values()):
            if not at_work.ended:
                continue
            del self._at_work[at_work.stage.index]
            at_work.show_output()
            if at_work.broke is not None:
                self._processes.remove(at_work.process)
                raise at_work.failure(at_work.broke, keep=not self._settings.force_remove)
            if at_work.roots:
                self._origins[FromStage(at_work.stage.index)] = Origin(
                    at_work.made.chain, at_work.roots
                )
            self._finish(at_work.stage, at_work.made)

    def _finish(self, stage: Stage, made: Made) -> None:
        self._made[stage.index] = made
        self._watcher.stage_ended(stage.index)

    # -- the end --

    def _publish(self, made: Made) -> Image:
        config = made.image_config(self._platform)
        if self._settings.squash:
            config = self._squashed(made, config)
        return self._store.images.add(config.data)

    @property
    def _platform(self) -> Platform:
        return self._settings.platform or Platform("linux", "")

    def _squashed(self, made: Made, config: ImageConfig) -> ImageConfig:
        from layerstore.operations.squash import squash

        base: Digest | None = made.image
        match self._plan.target.base:
            case FromNothing():
                base = None
            case FromStage(index):
                base = self._made[index].image_config(self._platform).id
        layers, history = made.inherited
        return squash(
            self._store,
            config,
            layers=layers,
            history=history,
            base=base,
            created_ns=self._clock(),
        )

    def _end(self) -> None:
        for origin in self._origins.values():
            origin.close()
        for at_work in self._at_work.values():
            for fd in at_work.roots:
                os.close(fd)
        with ExitStack() as stack:
            # A failure in one stage must not keep the others from being ended and removed.
            for process in self._processes:
                stack.callback(self._dispose, process)
                stack.callback(process.end)

    def _dispose(self, process: StageProcess) -> None:
        """Remove the container of a stage, unless the user wants to have it."""
        if self._settings.remove or not self._succeeded or not process.has_steps:
            process.remove()
        else:
            process.keep(0, {"Cmd": ["/bin/sh"], "Tty": True, "OpenStdin": True})


class _OfStage:
    """What a stage copies from, by the names in its instructions."""

    def __init__(self, builder: Builder, stage: Stage) -> None:
        self._builder = builder
        self._stage = stage

    def identity(self, name: str) -> str:
        return self._builder.origin(self._stage.sources[name]).identity

    def tree(self, name: str) -> Tree:
        return self._builder.mount(self._stage.sources[name]).tree()

    def roots(self, steps: Sequence[Step]) -> dict[str, int]:
        """Return, by name, descriptors of roots that the stage's process may mount."""
        found = {}
        taken: dict[Source, int] = {}
        for step in steps:
            for name in step.mounts_from:
                source = self._stage.sources[name]
                if source not in taken:
                    taken[source] = self._builder.mount(source).roots.pop()
                found[name] = taken[source]
        return found
