"""Platforms: how they are written, and which entry of an image index is for one.

Source: image-spec image-index.md; containerd `platforms/platforms.go`, `database.go`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from layerstore.errors import StoreError, shown
from layerstore.oci.documents import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from layerstore.oci.json_values import Object, text_of
from unionfs.light_typing import NamedTuple

# Go's names for those of uname(2) and of users.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "arm": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}
# What a single word may be; of two or more anything is accepted.
_KNOWN_OS = (
    "aix|android|darwin|dragonfly|freebsd|hurd|illumos|ios|js|linux|nacl|netbsd|openbsd|plan9"
    "|solaris|windows|zos"
)
_KNOWN_ARCHITECTURES = (
    "386|amd64(p32)?|arm(be)?|arm64(be)?|loong64|mips(64(p32)?)?(le)?|ppc(64(le)?)?|riscv(64)?"
    "|s390x?|sparc(64)?|wasm"
)
_WORD = r"^[A-Za-z0-9_-]+$"


class Platform(NamedTuple):
    """An operating system and a processor, in Go's words."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return shown("/".join(filter(None, self)))  # that of an image may be any text


def this_platform() -> tuple[str, str]:
    """Return architecture and variant of this machine in Go's words."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, (machine, ""))


def parse_platform(text: str) -> Platform:
    """Return the platform that `text` names: `os`, `arch`, `os/arch` or `os/arch/variant`.

    Raises StoreError, with docker's text.
    """
    words = text.split("/")
    for word in words:
        if not re.fullmatch(_WORD, word, re.ASCII):
            raise _invalid(
                f'"{shown(word)}" is an invalid component of "{shown(text)}": platform specifier '
                f'component must match "{_WORD}"'
            )
    if len(words) > 3:
        raise _invalid(f'"{shown(text)}": cannot parse platform specifier')
    first, *rest = (word.lower() for word in words)
    if not rest:
        if re.fullmatch(_KNOWN_OS, _os(first)):
            return Platform(_os(first), *this_platform())
        architecture, variant = _ARCHITECTURES.get(first, (first, ""))
        if not re.fullmatch(_KNOWN_ARCHITECTURES, architecture):
            raise _invalid(f'"{shown(text)}": unknown operating system or architecture')
        return Platform("linux", architecture, variant)
    architecture, variant = _ARCHITECTURES.get(rest[0], (rest[0], ""))
    asked = rest[1] if len(rest) == 2 else ""
    return Platform(
        _os(first), architecture, f"v{asked}" if asked.isdecimal() else asked or variant
    )


def _os(name: str) -> str:
    return "darwin" if name == "macos" else name


def _invalid(text: str) -> StoreError:
    return StoreError(f"{text}: invalid argument")


def platform_in(fields: Object) -> Platform:
    """Return the platform in `fields`, those of an image's configuration."""
    return Platform(*(text_of(fields, name) for name in ("os", "architecture", "variant")))


def choose_platform(
    entries: Sequence[Descriptor], wanted: Platform | None = None
) -> Descriptor | None:
    """Return the manifest of an index that is for the platform `wanted`.

    By default it is the one for this machine, or else the first image of any platform.
    With `wanted` it is None if there is none for that.
    """
    best: tuple[int, Descriptor] | None = None
    for entry in entries:
        fields = entry.platform or {}
        named = Platform(
            str(fields.get("os", "")),
            str(fields.get("architecture", "")),
            str(fields.get("variant", "")),
        )
        if "unknown" in named or entry.media_type not in INDEX_TYPES | MANIFEST_TYPES:
            continue
        # An index may name no platform for an entry that is an index itself.
        score = suits(named, wanted) or (1 if wanted is None or not named.architecture else 0)
        if score and (best is None or score > best[0]):
            best = score, entry
    return None if best is None else best[1]


def suits(found: Platform, wanted: Platform | None) -> int:
    """Return how well an image for `found` runs on `wanted`: 0 for not at all, up to 4."""
    if wanted is None:
        wanted = Platform("linux", *this_platform())
    if (found.os, found.architecture) != (wanted.os, wanted.architecture):
        return 0
    default = _ARCHITECTURES.get(found.architecture, ("", ""))[1]
    variant, own = found.variant or default, wanted.variant or default
    # An arm processor runs programs for older variants.
    return 4 if variant == own else 3 if variant < own else 2
