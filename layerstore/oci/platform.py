"""Platforms: how they are written, and which entry of an image index is for one.

Source: image-spec image-index.md; containerd `platforms/platforms.go`, `database.go`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from layerstore.errors import StoreError, shown
from layerstore.oci.documents import INDEX_TYPES, MANIFEST_TYPES, Descriptor

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
_OS = ("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris")
_WORD = re.compile(r"[A-Za-z0-9_.-]+")


class Platform(NamedTuple):
    """An operating system and a processor, in Go's words."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, self))


def this_platform() -> tuple[str, str]:
    """Return architecture and variant of this machine in Go's words."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, (machine, ""))


def parse_platform(text: str) -> Platform:
    """Return the platform that `text` names: `os`, `arch`, `os/arch` or `os/arch/variant`.

    Raises StoreError.
    """
    words = text.lower().split("/")
    if not 1 <= len(words) <= 3 or not all(_WORD.fullmatch(word) for word in words):
        raise StoreError(
            f'"{shown(text)}" is not a platform: write os/arch or os/arch/variant, as linux/arm64'
        )
    here, own_variant = this_platform()
    if len(words) == 1:
        if words[0] in _OS:
            return Platform(words[0], here, own_variant)
        words.insert(0, "linux")
    architecture, variant = _ARCHITECTURES.get(words[1], (words[1], ""))
    return Platform(words[0], architecture, words[2] if len(words) == 3 else variant)


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
