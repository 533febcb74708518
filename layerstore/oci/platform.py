"""Platforms: what this machine is called, and which entry of an index is for it.

Source: image-spec image-index.md; containerd `platforms/database.go`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from layerstore.oci.documents import INDEX_TYPES, MANIFEST_TYPES, Descriptor

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
}


def this_platform() -> tuple[str, str]:
    """Return architecture and variant of this machine in Go's words."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, (machine, ""))


def choose_platform(entries: Sequence[Descriptor]) -> Descriptor | None:
    """Return which of the manifests of an index is for this machine, else the first image."""
    architecture, variant = this_platform()
    best: tuple[int, Descriptor] | None = None
    for entry in entries:
        platform = entry.platform or {}
        arch, system = platform.get("architecture", ""), platform.get("os", "")
        if "unknown" in (arch, system) or entry.media_type not in INDEX_TYPES | MANIFEST_TYPES:
            continue
        score = 1
        if arch == architecture and system == "linux":
            own = str(platform.get("variant", "")) or variant
            # An arm runs what was built for an older one.
            score = 4 if own == variant else 3 if own < variant else 2
        if best is None or score > best[0]:
            best = score, entry
    return None if best is None else best[1]
