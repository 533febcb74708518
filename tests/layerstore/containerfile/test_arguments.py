"""ARG: scopes, what wins, and what stays out of the history."""

from __future__ import annotations

from layerstore.containerfile.arguments import GlobalArguments, platform_arguments
from layerstore.containerfile.instructions import Default
from layerstore.oci.platform import Platform


def test_a_stage_sees_an_argument_from_before_once_it_declares_it() -> None:
    arguments = GlobalArguments({})
    arguments.declare(Default("v", "1"))
    stage = arguments.stage()
    assert stage.values == {}
    stage.declare(Default("v", None))
    assert stage.values == {"v": "1"}
    assert arguments.stage().values == {}


def test_what_is_given_wins() -> None:
    arguments = GlobalArguments({"v": "given", "w": "given"})
    arguments.declare(Default("v", "1"))
    assert arguments.values == {"v": "given"}
    stage = arguments.stage()
    stage.declare(Default("v", "2"))
    stage.declare(Default("w", None))
    assert stage.values == {"v": "given", "w": "given"}


def test_a_default_of_the_stage_wins_over_one_from_before() -> None:
    arguments = GlobalArguments({})
    arguments.declare(Default("v", "1"))
    stage = arguments.stage()
    stage.declare(Default("v", "2"))
    assert stage.values == {"v": "2"}
    stage.declare(Default("v", None))
    assert stage.values == {"v": "1"}


def test_an_argument_without_a_value_is_no_variable() -> None:
    stage = GlobalArguments({"u": "1"}).stage()
    stage.declare(Default("v", None))
    assert stage.values == {}
    assert stage.recorded({}) == []


def test_proxies_need_no_declaration_and_are_not_recorded() -> None:
    arguments = GlobalArguments({"HTTP_PROXY": "p", "no_proxy": "n"})
    assert arguments.values == {"HTTP_PROXY": "p", "no_proxy": "n"}
    stage = arguments.stage()
    assert stage.values == {"HTTP_PROXY": "p", "no_proxy": "n"}
    assert stage.recorded({}) == []
    stage.declare(Default("HTTP_PROXY", None))
    assert stage.recorded({}) == ["HTTP_PROXY=p"]


def test_what_env_has_set_is_not_recorded() -> None:
    stage = GlobalArguments({}).stage()
    stage.declare(Default("b", "2"))
    stage.declare(Default("a", "1"))
    assert stage.recorded({}) == ["a=1", "b=2"]
    assert stage.recorded({"a": "x"}) == ["b=2"]


def test_arguments_that_nothing_declares() -> None:
    arguments = GlobalArguments({"v": "", "w": "", "u": "", "FTP_PROXY": ""})
    arguments.declare(Default("v", None))
    arguments.stage().declare(Default("w", None))
    assert arguments.unused() == ["u"]


def test_the_platform() -> None:
    target, build = Platform("linux", "arm", "v7"), Platform("linux", "amd64")
    arguments = GlobalArguments({"TARGETOS": "mine"}, platform_arguments(target, build, ""))
    assert arguments.values["TARGETPLATFORM"] == "linux/arm/v7"
    assert arguments.values["BUILDPLATFORM"] == "linux/amd64"
    assert arguments.values["TARGETSTAGE"] == "default"
    assert arguments.values["TARGETOS"] == "mine"
    stage = arguments.stage()
    assert stage.values == {}
    stage.declare(Default("TARGETARCH", None))
    stage.declare(Default("TARGETVARIANT", None))
    stage.declare(Default("BUILDVARIANT", "x"))
    assert stage.values == {"TARGETARCH": "arm", "TARGETVARIANT": "v7", "BUILDVARIANT": "x"}
