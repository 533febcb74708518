"""Plans: what names mean, which stages are needed, and when each may begin."""

from __future__ import annotations

import pytest

from layerstore.build.plan import FromImage, FromNothing, FromStage, Plan, make_plan
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import Copy, Run
from layerstore.containerfile.parse import parse
from layerstore.errors import StoreError
from layerstore.oci.platform import Platform

HERE = Platform("linux", "amd64")


def plan_of(text: str, target: str = "", **given: str) -> Plan:
    return make_plan(parse(text, "f"), target=target, given=given, platform=HERE, here=HERE)


def needed(plan: Plan) -> list[str]:
    return [stage.shown for stage in plan.needed]


THREE = """\
FROM debian AS base
RUN a
FROM base AS tools
RUN b
FROM scratch AS other
COPY x y
FROM base
COPY --from=tools /t /t
"""


def test_stages_and_their_bases() -> None:
    plan = plan_of(THREE)
    assert [stage.base for stage in plan.all_stages] == [
        FromImage("debian"),
        FromStage(0),
        FromNothing(),
        FromStage(0),
    ]
    assert [len(stage.instructions) for stage in plan.all_stages] == [1, 1, 1, 1]
    assert plan.target.index == 3
    assert plan.target.sources == {"tools": FromStage(1)}


def test_a_stage_that_nothing_needs_is_left_out() -> None:
    assert needed(plan_of(THREE)) == ["base", "tools", "3"]
    assert plan_of(THREE).steps == 6
    assert needed(plan_of(THREE, "tools")) == ["base", "tools"]
    assert needed(plan_of(THREE, "OTHER")) == ["other"]
    assert needed(plan_of(THREE, "2")) == ["other"]


def test_stages_without_a_need_of_each_other_are_ready_together() -> None:
    text = "FROM a AS x\nFROM b AS y\nFROM c\nCOPY --from=x / /x\nRUN --mount=from=1,target=/m z"
    plan = plan_of(text)
    assert [stage.shown for stage in plan.ready(set())] == ["x", "y"]
    assert [stage.shown for stage in plan.ready(set(), {0})] == ["y"]
    assert plan.ready({0}, {1}) == []
    assert [stage.shown for stage in plan.ready({0, 1})] == ["2"]
    assert plan.ready({0, 1, 2}) == []


def test_sources_are_stages_by_name_or_number_and_images() -> None:
    plan = plan_of(
        "FROM a AS One\nFROM scratch\nCOPY --from=ONE a b\nCOPY --from=0 a b\n"
        "COPY --from=alpine:3 a b\nRUN --mount=type=cache,target=/c,from=scratch x"
    )
    assert plan.target.sources == {
        "ONE": FromStage(0),
        "0": FromStage(0),
        "alpine:3": FromImage("alpine:3"),
        "scratch": FromNothing(),
    }
    assert plan.target.images == [FromImage("alpine:3")]
    assert plan.all_stages[0].images == [FromImage("a")]


def test_arguments_before_the_first_stage() -> None:
    text = "ARG A=12\nARG B=debian:$A\nFROM --platform=$BUILDPLATFORM $B\nARG A\nRUN $A"
    plan = plan_of(text)
    assert plan.target.base == FromImage("debian:12", HERE)
    assert [one.defaults[0].value for one in plan.preamble] == ["12", "debian:12"]
    assert plan.steps == 5
    assert plan_of(text, A="13").target.base == FromImage("debian:13", HERE)
    assert plan_of(text, B="x").target.base == FromImage("x", HERE)


def test_arguments_of_a_stage_are_not_seen_by_later_from_lines() -> None:
    with pytest.raises(ContainerfileError, match=r"f:3: base name \(\$A\) should not be blank"):
        plan_of("FROM x\nARG A=y\nFROM $A")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FROM a AS x\nFROM b AS X", "f:2: x stage name already used"),
        ("FROM a\nCOPY --from=0 a b", "f:2: invalid from flag value 0: refers to current"),
        ("FROM a\nCOPY --from=1 a b", "f:2: invalid from flag value 1: index out of bounds"),
        ("FROM a AS x\nCOPY --from=x a b", "f:2: invalid from flag value x: refers to current"),
        ("FROM a\nCOPY --from=x a b\nFROM b AS x", "f:2: .*that stage comes later"),
        ("FROM a\nRUN --mount=target=/x,from=x y\nFROM b AS x", "f:2: .*that stage comes later"),
        ("FROM a\nCOPY --from=$x a b", r"f:2: .*it has no variables"),
        ("FROM --platform=a/b/c/d x", 'f:1: failed to parse platform: "a/b/c/d": cannot parse'),
        ("FROM ${x", "f:1: failed to process"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ContainerfileError, match=reason):
        plan_of(text)


def test_a_later_stage_of_the_name_of_an_image_does_not_count_for_from() -> None:
    plan = plan_of("FROM debian\nFROM x AS debian")
    assert plan.all_stages[0].base == FromImage("debian")


@pytest.mark.parametrize("target", ["nope", "4"])
def test_a_target_that_is_missing_is_refused(target: str) -> None:
    with pytest.raises(StoreError, match=f"build target {target} .* base, tools, other"):
        plan_of(THREE, target)


def test_triggers_of_a_base_come_first_and_may_need_more() -> None:
    plan = plan_of("FROM a AS x\nFROM b\nRUN c")
    assert needed(plan) == ["1"]
    changed = plan.with_triggers(plan.target, ["COPY --from=x  a b", "RUN d"])
    assert needed(changed) == ["x", "1"]
    copy, run = changed.target.triggers
    assert isinstance(copy, Copy)
    assert isinstance(run, Run)
    assert (copy.sources, copy.at.file, copy.at.text) == (
        ("a",),
        "ONBUILD of b",
        "COPY --from=x  a b",
    )
    assert len(changed.target.instructions) == 1
    assert needed(plan) == ["1"]


@pytest.mark.parametrize("trigger", ["FROM x", "FOO", "RUN a\nRUN b"])
def test_a_trigger_that_docker_would_refuse_is_refused(trigger: str) -> None:
    plan = plan_of("FROM b")
    with pytest.raises(ContainerfileError, match="ONBUILD of b:"):
        plan.with_triggers(plan.target, [trigger])
