"""What stages have made: their layers, and the configuration of an image of them.

Decided here and only here: which fields of a base's configuration an image keeps.  They are
written sorted by name, so that the same build gives the same id.

Threading: one thread.

Source: image-spec config.md; moby `image/image.go`, NewChildImage().
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from layerstore.build.tree import Tree
from layerstore.containerfile.stage_state import StageState
from layerstore.oci.digest import Digest
from layerstore.oci.documents import HistoryEntry, ImageConfig
from layerstore.oci.platform import Platform
from layerstore.oci.timestamps import format_timestamp

# What docker records of the container that an image came from.
_NOT_KEPT = (
    "container",
    "container_config",
    "id",
    "parent",
    "parent_id",
    "comment",
    "docker_version",
)


class Made:
    """What a stage has made: its layers, and the configuration of an image of them.

    `image` is the id of the image below it; `inherited` counts that image's layers and
    history entries.
    """

    def __init__(
        self, base: ImageConfig | None, chain: Digest | None, name: str, image: Digest
    ) -> None:
        self.base = base
        self.chain = chain
        self.name = name
        self.image = image
        self.diff_ids: list[Digest] = []
        self.history: list[HistoryEntry] = []
        self.state: StageState | None = None
        self.inherited = (0, 0)

    def inherit(self, diff_ids: Sequence[Digest], history: Sequence[HistoryEntry]) -> None:
        """Begin with the layers and the history of the image below."""
        self.diff_ids, self.history = list(diff_ids), list(history)
        self.inherited = len(diff_ids), len(history)

    @property
    def shown_id(self) -> str:
        """The short id of the topmost layer, or of the image below if there is none."""
        return (self.chain or self.image).short

    def take(
        self, created_ns: int, created_by: str, diff_id: Digest | None, author: str = ""
    ) -> None:
        """Add a step."""
        self.history.append(
            HistoryEntry(
                created=format_timestamp(created_ns),
                created_by=created_by,
                author=author,
                empty_layer=diff_id is None,
            )
        )
        if diff_id is not None:
            self.diff_ids.append(diff_id)

    def image_config(self, platform: Platform) -> ImageConfig:
        """Return the configuration of the image."""
        assert self.state is not None
        fields = dict(self.base.fields) if self.base is not None else {}
        for name in _NOT_KEPT:
            fields.pop(name, None)
        fields.setdefault("architecture", platform.architecture)
        fields.setdefault("os", platform.os)
        if platform.variant and self.base is None:
            fields["variant"] = platform.variant
        if self.history:
            fields["created"] = self.history[-1].created
        if self.state.author:
            fields["author"] = self.state.author
        fields["config"] = self.state.config
        fields["rootfs"] = {"type": "layers", "diff_ids": list(self.diff_ids)}
        fields["history"] = [entry.as_json() for entry in self.history]
        return ImageConfig.of(dict(sorted(fields.items())))


class Origin:
    """A stage or an image to copy from: its layers, and descriptors of its root.

    `close` closes the descriptors.
    """

    def __init__(self, chain: Digest | None, roots: Sequence[int] = ()) -> None:
        self.chain = chain
        self.roots = list(roots)

    @property
    def identity(self) -> str:
        """A text that identifies the tree and its content."""
        return self.chain or "empty"

    def tree(self) -> Tree:
        """Return the tree, for the builder itself."""
        return Tree(self.roots[0], owners=True)

    def close(self) -> None:
        """Close the descriptors, so that the mount can end."""
        for fd in self.roots:
            os.close(fd)
        self.roots.clear()
