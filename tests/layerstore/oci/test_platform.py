"""Platforms: how they are written, and what runs on what."""

from __future__ import annotations

import os

import pytest

from layerstore.errors import StoreError
from layerstore.oci.digest import Digest
from layerstore.oci.documents import OCI_CONFIG, OCI_MANIFEST, Descriptor
from layerstore.oci.json_values import Object
from layerstore.oci.platform import (
    Platform,
    choose_platform,
    parse_platform,
    platform_in,
    suits,
    this_platform,
)


def entry(number: int, platform: Object | None, kind: str = OCI_MANIFEST) -> Descriptor:
    return Descriptor(kind, Digest(f"sha256:{number:064x}"), 1, platform=platform)


def linux(architecture: str, variant: str = "") -> Object:
    return {"os": "linux", "architecture": architecture, "variant": variant}


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", ("linux", "amd64", "")),
        ("x86_64", ("linux", "amd64", "")),
        ("Linux/ARM64", ("linux", "arm64", "v8")),
        ("linux/arm", ("linux", "arm", "v7")),
        ("linux/arm/v6", ("linux", "arm", "v6")),
        ("armhf", ("linux", "arm", "v7")),
        ("windows/amd64", ("windows", "amd64", "")),
        ("linux/arm/7", ("linux", "arm", "v7")),
        ("macos/arm64", ("darwin", "arm64", "v8")),
        ("foo/bar", ("foo", "bar", "")),
    ],
)
def test_what_can_be_written(text: str, platform: tuple[str, str, str]) -> None:
    assert parse_platform(text) == platform


def test_an_os_alone_is_this_machine() -> None:
    assert parse_platform("linux") == ("linux", *this_platform())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", '"" is an invalid component of "": platform specifier component must match'),
        ("linux/", '"" is an invalid component of "linux/": platform specifier'),
        ("linux/am d64", '"am d64" is an invalid component of "linux/am d64": platform'),
        ("linux//v7", '"" is an invalid component of "linux//v7": platform specifier'),
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        ("foo", '"foo": unknown operating system or architecture: invalid argument'),
        ("Foo\n", '"Foo\\n" is an invalid component of'),
    ],
)
def test_what_is_no_platform(text: str, said: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_platform(text)
    assert str(caught.value).startswith(said) and str(caught.value).endswith("invalid argument")


def test_an_image_writes_no_lines_of_its_own_by_its_platform() -> None:
    assert str(platform_in({"os": "linux\x1b[31m", "architecture": "a\nb"})) == (
        r"linux\x1b[31m/a\nb"
    )


def test_uname_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    uname = os.uname()
    for machine, found in (("aarch64", ("arm64", "v8")), ("riscv64", ("riscv64", ""))):
        there = os.uname_result((*uname[:4], machine))
        monkeypatch.setattr(os, "uname", lambda there=there: there)
        assert this_platform() == found


def test_the_best_variant_is_chosen() -> None:
    entries = [entry(n, linux("arm", variant)) for n, variant in enumerate(("v5", "v7", "v6"))]
    for wanted, number in (("linux/arm/v6", 2), ("linux/arm", 1), ("linux/arm/v5", 0)):
        assert choose_platform(entries, parse_platform(wanted)) == entries[number]


def test_without_a_wish_any_image_is_better_than_none(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry(1, linux("s390x")), entry(2, linux("arm64"))]
    uname = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*uname[:4], "x86_64")))
    assert choose_platform(entries) == entries[0]
    assert choose_platform(entries, parse_platform("linux/amd64")) is None
    assert choose_platform([*entries, entry(3, linux("amd64"))]) == entry(3, linux("amd64"))


def test_what_is_no_image_is_passed_over() -> None:
    unknown: Object = {"os": "unknown", "architecture": "unknown"}
    others = [entry(1, unknown), entry(2, linux("amd64"), OCI_CONFIG)]
    assert choose_platform(others) is None
    assert choose_platform([*others, entry(3, None)]) == entry(3, None)


def test_arm64_without_a_variant_is_v8() -> None:
    assert suits(Platform("linux", "arm64"), Platform("linux", "arm64", "v8")) == 4
    assert suits(Platform("linux", "amd64"), Platform("linux", "arm64", "v8")) == 0
