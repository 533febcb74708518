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
import select
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layerstore.build.cache import BuildCache, StepRow
from layerstore.build.plan import FromImage, FromNothing, FromStage, Plan, Source, Stage
from layerstore.build.source_digest import Memo
from layerstore.build.tree import Tree
from layerstore.containerfile.errors import located
from layerstore.containerfile.stage_state import StageState
from layerstore.errors import StoreError
from layerstore.images.images import Image
from layerstore.oci.digest import SHORT, sha256_digest
from layerstore.oci.documents import ImageConfig
from layerstore.oci.platform import Platform
from layerstore.store import Store
from mount_tools.build.cache_from import find_in_images
from mount_tools.build.evaluate import Evaluation, Step, look_config
from mount_tools.build.made import Made, Origin
from mount_tools.build.messages import Began, Broke, Finished, Kept, Link, Ready, Unpacked
from mount_tools.build.stage_container import new_container
from mount_tools.build.watch import Shown, Watcher

if TYPE_CHECKING:
    from layerstore.build.download import Downloads
    from mount_tools.build.packer import Recorded
    from mount_tools.build.stage import Task
    from mount_tools.build.stage_process import StageProcess

_PIECE = 1 << 16


class StepError(StoreError):
    """A step has failed.  Holds the exit status of its command, or 0 if no command failed."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Settings:
    """The settings of a build, besides its Containerfile and context.

    `find_image` returns an image by its name and the platform of its FROM, and may pull it;
    `epoch_ns` is SOURCE_DATE_EPOCH, `cache_from` are images that serve as cache.
    """

    find_image: Callable[[str, Platform | None], Image]
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    labels: Sequence[tuple[str, str]] = ()
    use_cache: bool = True
    cache_from: Sequence[ImageConfig] = ()
    epoch_ns: int | None = None
    platform: Platform | None = None


@dataclass
class _AtWork:
    """A stage at work: the steps that `process` does, and how many of them are done."""

    stage: Stage
    made: Made
    steps: list[Step]
    process: StageProcess
    current: Step
    ready: bool = False
    packed: bool = False
    broke: Broke | None = None
    roots: list[int] = field(default_factory=list)


class Builder:
    """One build."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        context: Tree,
        settings: Settings,
        watcher: Watcher,
        cache: BuildCache,
        memo: Memo,
        downloads: Callable[[], Downloads],
    ) -> None:
        self._store = store
        self._plan = plan
        self._context = context
        self._settings = settings
        self._watcher = watcher
        self._cache = cache
        self._memo = memo
        self._downloads = downloads
        self._made: dict[int, Made] = {}
        self._at_work: dict[int, _AtWork] = {}
        self._origins: dict[Source, Origin] = {}
        self._processes: list[StageProcess] = []
        self._triggered: set[int] = set()
        self._numbers: dict[int, int] = {}

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
            return self._publish(self._made[self._plan.target.index])
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

    def _preamble(self) -> None:
        first = self._plan.needed[0].index
        for number, arg in enumerate(self._plan.preamble, 1):
            step = Shown(number, self._plan.steps, first, "", arg.at.text.strip())
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
        id_shown = made.image[7 : 7 + SHORT] if isinstance(stage.base, FromImage) else ""
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
                copied.diff_ids = list(below.diff_ids)
                copied.history = list(below.history)
                return copied
            case FromImage(name, platform):
                image = self._settings.find_image(name, platform)
                if image.top is not None:
                    self._store.layers.need(image.top)
                config = self._store.images.config(image)
                made = Made(config, image.top, name, image.id)
                made.diff_ids = list(config.diff_ids)
                made.history = list(config.history)
                return made
            case FromNothing():
                return Made(None, None, "scratch", sha256_digest(b""))

    def _shown(self, stage: Stage, number: int, text: str) -> Shown:
        return Shown(number, self._plan.steps, stage.index, stage.name, text)

    def _evaluate(self, stage: Stage, made: Made, state: StageState) -> None:
        counter = self._numbers[stage.index]

        def number(text: str, counts: bool) -> Shown:
            nonlocal counter
            counter += counts
            return self._shown(stage, counter, text)

        origins = _OfStage(self, stage)
        evaluation = Evaluation(
            stage, state, self._context, origins, self._memo, self._downloads, number
        )
        left: list[Step] = []
        for step in evaluation.steps():
            if left or not self._take_cached(made, step):
                left.append(step)
        if stage is self._plan.target and self._settings.labels:
            before = state.config
            created_by = state.label(self._settings.labels)
            label = evaluation.label_step(before, created_by)
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
        self._watcher.step_began(step.shown)
        self._watcher.step_cached(step.shown)
        made.chain = found.chain
        made.take(found.created_ns, found.created_by, found.diff_id)
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
        if found is None and self._settings.cache_from and not step.has_mounts:
            found = find_in_images(self._settings.cache_from, made, step.created_by)
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
                made.take(created, step.created_by, None)
                self._watcher.step_finished(step.shown, 0, "")

    def _clock(self) -> int:
        epoch = self._settings.epoch_ns
        return time.time_ns() if epoch is None else epoch

    # -- a stage at work --

    def _start(self, stage: Stage, made: Made, steps: list[Step], origins: _OfStage) -> None:
        roots = origins.roots(steps)
        runs = any(step.runs for step in steps)
        # The mount of a stage with a RUN has mount points that are in no layer.  Stages that
        # copy from it get a mount of its layers instead.
        exports = 0 if runs else self._exports(stage)
        process = self._process(made, steps, roots, runs=runs, exports=exports)
        self._at_work[stage.index] = _AtWork(stage, made, steps, process, steps[0])

    def _exports(self, stage: Stage) -> int:
        users = [one for one in self._plan.needed if stage.index in one.needs]
        return len(users) + 1 if users else 0

    def _process(
        self,
        made: Made,
        steps: Sequence[Step],
        roots: dict[str, int],
        *,
        runs: bool,
        exports: int,
    ) -> StageProcess:
        from mount_tools.build.sources import Reached
        from mount_tools.build.stage import Task
        from mount_tools.build.stage_process import StageProcess
        from mount_tools.build.tasks import Surroundings

        container = new_container(self._store, made.chain, made.image, made.name, {})
        directory = self._store.containers.directory(container)
        settings, context, caches = self._settings, self._context, self._store.root / "build-cache"

        def tasks(output: int) -> list[Task]:
            reached = Reached(context, roots, Path(directory))
            around = Surroundings(reached, output, caches, settings.secrets, settings.epoch_ns)
            return [
                Task(number, None if step.work is None else step.work(around))
                for number, step in enumerate(steps)
            ]

        cache = self._cache

        def record(store: Store, done: Recorded) -> None:
            step = steps[done.step]
            for key in step.keys(done.below):
                cache.keep(key, StepRow(done.created_ns, step.created_by, done.diff_id, done.chain))

        kept = [
            context.fd,
            *roots.values(),
            *(fd for step in steps for fd in step.descriptors),
            *(o.roots[0] for o in self._origins.values() if o.roots),
        ]
        process = StageProcess(
            self._store,
            container,
            tasks,
            record,
            clock=self._clock,
            newest_ns=settings.epoch_ns,
            runs=runs,
            exports=exports,
            sources=kept,
        )
        self._processes.append(process)
        return process

    def mount(self, source: Source) -> Origin:
        """Return the stage or image to copy from, with its root mounted."""
        origin = self.origin(source)
        if not origin.roots:
            made = self._base(source)
            users = sum(source in one.sources.values() for one in self._plan.needed)
            process = self._process(made, (), {}, runs=False, exports=users + 1)
            while not origin.roots:
                received = process.steps.receive()
                if received is None:
                    raise StoreError("the process that mounts a stage to copy from has ended")
                if isinstance(received[0], Ready):
                    origin.roots = received[1]
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
        poll = select.poll()
        watched: dict[int, tuple[_AtWork, Link | None]] = {}
        for at_work in self._at_work.values():
            process = at_work.process
            watched[process.output] = at_work, None
            if not at_work.ready:
                watched[process.steps.fileno()] = at_work, process.steps
            if not at_work.packed:
                watched[process.packed.fileno()] = at_work, process.packed
        for fd in watched:
            poll.register(fd, select.POLLIN)
        for fd, event in poll.poll():
            at_work, link = watched[fd]
            if link is None:
                if not self._show_output(at_work) and event & select.POLLHUP:
                    poll.unregister(fd)
            else:
                self._take(at_work, link)
        for at_work in list(self._at_work.values()):
            if at_work.ready and at_work.packed:
                del self._at_work[at_work.stage.index]
                self._show_output(at_work)
                if at_work.broke is not None:
                    raise self._failed(at_work, at_work.broke)
                if at_work.roots:
                    self._origins[FromStage(at_work.stage.index)] = Origin(
                        at_work.made.chain, at_work.roots
                    )
                self._finish(at_work.stage, at_work.made)

    def _show_output(self, at_work: _AtWork) -> bool:
        """Show what the step's command has printed; tell whether it printed anything."""
        try:
            data = os.read(at_work.process.output, _PIECE)
        except BlockingIOError:
            return False
        if data:
            self._watcher.output(at_work.current.shown, data)
        return bool(data)

    def _take(self, at_work: _AtWork, link: Link) -> None:
        received = link.receive()
        if received is None:
            who = "packs its layers" if link is at_work.process.packed else "does its steps"
            raise StoreError(f"the process of stage {at_work.stage.shown} that {who} was killed")
        message, fds = received
        match message:
            case Began(number):
                at_work.current = at_work.steps[number]
                self._watcher.step_began(at_work.current.shown)
                if at_work.current.work is not None:
                    short = at_work.process.container.short
                    self._watcher.step_running(at_work.current.shown, short)
            case Finished(number, seconds):
                while self._show_output(at_work):
                    pass
                self._watcher.step_finished(at_work.steps[number].shown, seconds, "")
            case Broke():
                while self._show_output(at_work):
                    pass
                self._watcher.step_failed(at_work.steps[message.step].shown)
                at_work.broke = message
                at_work.ready = True
            case Ready():
                at_work.ready = True
                at_work.roots = fds
            case Kept(number, created, diff_id, chain):
                if number < 0:
                    at_work.packed = True
                    if chain is not None:
                        self._store.layers.need(chain)
                else:
                    at_work.made.chain = chain
                    at_work.made.take(created, at_work.steps[number].created_by, diff_id)
            case Unpacked(text, code):
                # The cause tells a full disk, for which there is advice.
                raise StoreError(text) from (OSError(code, text) if code else None)

    def _finish(self, stage: Stage, made: Made) -> None:
        self._made[stage.index] = made
        self._watcher.stage_ended(stage.index)

    def _failed(self, at_work: _AtWork, broke: Broke) -> StepError:
        """Keep the container of the step that failed; return the error of the build."""
        step = at_work.steps[broke.step]
        process = at_work.process
        self._processes.remove(process)
        process.kill()
        process.end()
        base = at_work.made.state.config if at_work.made.state is not None else {}
        process.keep(broke.status or 1, look_config(step.look, base))
        name = process.container.name
        why = broke.text or f"its command ended with status {broke.status}"
        text = (
            f"{step.place}: step {step.shown.number}/{step.shown.total} failed: {why}\n"
            f"  {step.shown.text.splitlines()[0]}\n"
            f"Its container is kept, and the steps before it are cached:\n"
            f"  pyunion start -ai {name}   opens a shell in it\n"
            f"  pyunion diff {name}        shows what the step had changed\n"
            f"  pyunion rm {name}          removes it"
        )
        return StepError(broke.status, text)

    # -- the end --

    def _publish(self, made: Made) -> Image:
        platform = self._settings.platform or Platform("linux", "")
        config = made.image_config(platform)
        with self._store.leases.lease("work", "build"):
            return self._store.images.add(config.data)

    def _end(self) -> None:
        for origin in self._origins.values():
            origin.close()
        for at_work in self._at_work.values():
            for fd in at_work.roots:
                os.close(fd)
        with ExitStack() as stack:
            # A failure in one stage must not keep the others from being ended and removed.
            for process in self._processes:
                stack.callback(process.remove)
                stack.callback(process.end)


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
