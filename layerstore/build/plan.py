"""The stages of a build, the dependencies of each, and the order in which they may run.

    plan = make_plan(containerfile, target="", given={}, platform=..., here=...)
    while not done: for stage in plan.ready(finished): ...

This module alone decides what a name in FROM, `COPY --from` and `RUN --mount=from` means,
and leaves out the stages that the target does not need.

Threading: immutable.  Source: the Dockerfile reference, "FROM", "COPY --from", "ONBUILD";
moby `builder/dockerfile/evaluator.go`; buildkit `dockerfile2llb/convert.go`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from layerstore.containerfile.arguments import GlobalArguments, platform_arguments
from layerstore.containerfile.errors import ContainerfileError, Location
from layerstore.containerfile.expand import Expander
from layerstore.containerfile.instructions import (
    Arg,
    Containerfile,
    Copy,
    From,
    Instruction,
    Run,
    Warned,
)
from layerstore.containerfile.parse import parse_single
from layerstore.errors import StoreError, shown
from layerstore.oci.platform import Platform, parse_platform
from unionfs.light_typing import NamedTuple

SCRATCH = "scratch"


class FromStage(NamedTuple):
    """The result of the stage with that index."""

    index: int  # type: ignore[assignment]  # in place of tuple.index()


class FromImage(NamedTuple):
    """The image `name`, for `platform` if FROM has one."""

    name: str
    platform: Platform | None = None


class FromNothing(NamedTuple):
    """`scratch`: an empty tree."""


Source = FromStage | FromImage | FromNothing


class Stage(NamedTuple):
    """A stage: its base and its instructions, without FROM and triggers.

    `sources` maps each name in a `--from` of its instructions to a stage or an image; `needs`
    are the indices of the stages that it depends on.  `triggers` are the ONBUILD
    instructions of the base.
    """

    index: int  # type: ignore[assignment]  # in place of tuple.index()
    name: str
    at: Location
    base: Source
    instructions: tuple[Instruction, ...]
    sources: Mapping[str, Source]
    triggers: tuple[Instruction, ...] = ()

    @property
    def needs(self) -> frozenset[int]:
        """The indices of the stages that have to be finished before this one begins."""
        used = (self.base, *self.sources.values())
        return frozenset(source.index for source in used if isinstance(source, FromStage))

    @property
    def images(self) -> list[FromImage]:
        """The images that the stage needs, its base first."""
        used = (self.base, *self.sources.values())
        return list(dict.fromkeys(source for source in used if isinstance(source, FromImage)))

    @property
    def shown(self) -> str:
        """The name or the number of the stage, for messages."""
        return self.name or str(self.index)


class Plan(NamedTuple):
    """A build: all stages of the file, of which only those in `needed` are run.

    `preamble` are the ARGs before the first FROM; `arguments` has their values.
    """

    all_stages: tuple[Stage, ...]
    target: Stage
    preamble: tuple[Arg, ...]
    arguments: GlobalArguments
    escape: str
    warnings: tuple[Warned, ...]

    @property
    def needed(self) -> tuple[Stage, ...]:
        """The target and the stages that it needs, in the order of the file."""
        found: set[int] = set()
        todo = [self.target.index]
        while todo:
            index = todo.pop()
            if index not in found:
                found.add(index)
                todo += self.all_stages[index].needs
        return tuple(stage for stage in self.all_stages if stage.index in found)

    @property
    def steps(self) -> int:
        """The number of instructions that are run, as docker counts steps."""
        return len(self.preamble) + sum(1 + len(stage.instructions) for stage in self.needed)

    def ready(self, finished: Collection[int], begun: Collection[int] = ()) -> list[Stage]:
        """Return the needed stages that may begin: all that they depend on are `finished`."""
        return [
            stage
            for stage in self.needed
            if stage.index not in finished
            and stage.index not in begun
            and stage.needs.issubset(finished)
        ]

    def with_triggers(self, stage: Stage, triggers: Sequence[str]) -> Plan:
        """Return the plan with the ONBUILD instructions of the base of `stage` inserted.

        The instructions may need further stages and images.  Raises ContainerfileError.
        """
        parsed = tuple(parse_single(text, f"ONBUILD of {_base_of(stage)}") for text in triggers)
        for one in parsed:
            if isinstance(one, From):
                raise ContainerfileError(one.at, "FROM isn't allowed as an ONBUILD trigger")
        before = self.all_stages[: stage.index]
        names = {one.name for one in self.all_stages}
        sources = {**_sources(parsed, before, names, stage), **stage.sources}
        changed = stage._replace(triggers=parsed, sources=sources)
        stages = (*before, changed, *self.all_stages[stage.index + 1 :])
        return self._replace(all_stages=stages, target=stages[self.target.index])


def make_plan(
    containerfile: Containerfile,
    *,
    target: str = "",
    given: Mapping[str, str] | None = None,
    platform: Platform,
    here: Platform,
) -> Plan:
    """Return the plan of a build of the stage `target`, by default the last.

    `given` are the build arguments, `platform` is the target's and `here` this machine's.
    Raises ContainerfileError, and StoreError if there is no such target.
    """
    wanted = target.lower()
    arguments = GlobalArguments(given or {}, platform_arguments(platform, here, wanted))
    preamble: list[Arg] = []
    stages: list[Stage] = []
    names = {one.stage for one in containerfile.instructions if isinstance(one, From)}
    for first, rest in _split(containerfile.instructions):
        if first is None:
            preamble += _declare(rest, arguments, containerfile.escape)
            continue
        line = Expander(containerfile.escape, arguments.values).from_line(first)
        if any(stage.name == line.stage for stage in stages if line.stage):
            raise ContainerfileError(first.at, f"{line.stage} stage name already used")
        base = _base(line, stages)
        stage = Stage(len(stages), line.stage, first.at, base, rest, {})
        stages.append(stage._replace(sources=_sources(rest, stages, names, stage)))
    return Plan(
        tuple(stages),
        _target(stages, wanted) if wanted else stages[-1],
        tuple(preamble),
        arguments,
        containerfile.escape,
        containerfile.warnings,
    )


def _split(
    instructions: Sequence[Instruction],
) -> Iterator[tuple[From | None, tuple[Instruction, ...]]]:
    """Yield the instructions before the first FROM, then each FROM with its instructions."""
    first: From | None = None
    rest: list[Instruction] = []
    for one in instructions:
        if isinstance(one, From):
            yield first, tuple(rest)
            first, rest = one, []
        else:
            rest.append(one)
    yield first, tuple(rest)


def _declare(
    found: Sequence[Instruction], arguments: GlobalArguments, escape: str
) -> Iterator[Arg]:
    for one in found:
        expanded = Expander(escape, arguments.values).expand(one)
        assert isinstance(expanded, Arg), "the parser lets nothing else come before FROM"
        for default in expanded.defaults:
            arguments.declare(default)
        yield expanded


def _base(line: From, before: Sequence[Stage]) -> Source:
    """Return the base of a FROM: an earlier stage, scratch, or an image."""
    name = line.image.lower()
    for stage in before:
        if stage.name and stage.name == name:
            return FromStage(stage.index)
    if line.image == SCRATCH:
        return FromNothing()
    try:
        platform = parse_platform(line.platform) if line.platform else None
    except StoreError as error:
        raise ContainerfileError(line.at, f"failed to parse platform: {error}") from None
    return FromImage(line.image, platform)


def _sources(
    instructions: Sequence[Instruction],
    before: Sequence[Stage],
    known: Collection[str],
    stage: Stage,
) -> dict[str, Source]:
    """Map each name in a `--from` of `instructions` to its source; `known` are all stages."""
    found: dict[str, Source] = {}
    for one in instructions:
        if isinstance(one, Copy):
            used = [one.stage]
        elif isinstance(one, Run):
            used = [flag.stage for flag in one.flags]
        else:
            continue
        for name in filter(None, used):
            found[name] = _source(name, before, known, stage, one)
    return found


def _source(
    name: str, before: Sequence[Stage], known: Collection[str], stage: Stage, one: Copy | Run
) -> Source:
    at = one.at
    lower = name.lower()
    for earlier in before:
        if earlier.name and earlier.name == lower:
            return FromStage(earlier.index)
    if re.fullmatch(r"[0-9]{1,9}", name):
        index = int(name)
        if index == stage.index:
            raise ContainerfileError(
                at, f"invalid from flag value {name}: refers to current build stage"
            )
        if index > stage.index:
            raise ContainerfileError(at, f"invalid from flag value {name}: index out of bounds")
        return FromStage(index)
    if lower == stage.name:
        raise ContainerfileError(
            at, f"invalid from flag value {shown(name)}: refers to current build stage"
        )
    if lower in known:
        raise ContainerfileError(
            at,
            f"invalid from flag value {shown(name)}: that stage comes later, and can be used "
            "from there on only",
        )
    if name == SCRATCH:
        return FromNothing()
    if "$" in name:
        raise ContainerfileError(
            at,
            f"invalid from flag value {shown(name)}: it has no variables; give the image a name "
            f"with FROM {shown(name)} AS name",
        )
    return FromImage(name)


def _target(stages: Sequence[Stage], wanted: str) -> Stage:
    for stage in stages:
        if stage.name == wanted:
            return stage
    if re.fullmatch(r"[0-9]{1,9}", wanted) and int(wanted) < len(stages):
        return stages[int(wanted)]
    names = ", ".join(stage.name for stage in stages if stage.name)
    known = f"the stages with a name are {names}" if names else "no stage has a name"
    raise StoreError(f"failed to reach build target {shown(wanted)} in Dockerfile: {known}")


def _base_of(stage: Stage) -> str:
    base = stage.base
    if isinstance(base, FromImage):
        return base.name
    return f"stage {base.index}" if isinstance(base, FromStage) else SCRATCH
