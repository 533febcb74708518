"""The errors of the store: each text is a sentence for the person at the terminal.

If docker has a message for the same failure, the text is docker's, without
its "Error response from daemon: ".  Callers that react to a failure catch its
class or read its attributes, never its text.  `exit_code` is the exit status
of a command that fails with the error.
"""

from __future__ import annotations


class StoreError(Exception):
    """An operation of the store failed; the text says which, on what and why."""

    exit_code = 1


class NotFound(StoreError):
    """No image, container, layer or blob has that name."""


class NoSuchImage(NotFound):
    """No image has the name or id `name`, which is as the user should see it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No such image: {name}")
        self.name = name


class NoSuchContainer(NotFound):
    """No container has the name or id `name`, which is as the user should see it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No such container: {name}")
        self.name = name


class NoSuchVolume(NotFound):
    """No volume has the name `name`, which is as the user should see it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No such volume: {name}")
        self.name = name


class Conflict(StoreError):
    """The request contradicts something in the store; the text names it."""


class Busy(StoreError):
    """Another process holds what is needed; trying again later may work."""


class InUse(Busy):
    """A mount or a running container uses what should be changed; it must end first."""


class DiskFull(StoreError):
    """The disk or the user's quota is full; the text says how to free space."""


class LayerUnreadable(StoreError):
    """Layers of the store cannot be opened as one tree."""


class InvalidReference(StoreError):
    """The name of an image, a tag or a container does not follow the grammar."""


class InvalidArgument(StoreError):
    """The value of a flag does not follow the flag's grammar."""

    exit_code = 125


class AmbiguousId(InvalidReference):
    """A short id is the beginning of several ids."""


class InvalidImage(StoreError):
    """A configuration, manifest or archive is not as its format requires."""


class InvalidDigest(InvalidReference, InvalidImage):
    """A digest is not `sha256:` and 64 hexadecimal digits."""


class UnknownMediaType(InvalidImage):
    """A document or layer is of a type that this store cannot read."""


class DigestMismatch(InvalidImage):
    """The digest of some content is not the announced one."""


class SizeMismatch(InvalidImage):
    """Content is longer or shorter than announced."""


class NotATar(InvalidImage):
    """A stream has something else where the header of a tar entry must be."""


class UnsafePath(InvalidImage):
    """An archive names a path outside of the tree it is unpacked in."""


class LimitExceeded(InvalidImage):
    """An archive exceeds the limits, as a decompression bomb would."""


class WrongVersion(StoreError):
    """A newer PyUnion wrote the store."""


_LONGEST = 200  # characters of a name in a message


def shown(text: str) -> str:
    """Return `text`, which comes from an image or an archive, for an error message.

    Control characters are escaped and a long text is cut, so that an archive cannot write
    its own lines to a log or a terminal.
    """
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
