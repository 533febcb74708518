"""The errors of the store: each a sentence for the person at the terminal.

Where docker has a sentence for the same failure, the text is docker's, without
its "Error response from daemon: ".  `exit_code` is what a command that fails
with the error exits with.
"""

from __future__ import annotations


class StoreError(Exception):
    """Something of the store could not be done; the text says what, on what and why."""

    exit_code = 1


class NotFound(StoreError):
    """There is no image, container, layer or blob of that name."""


class Conflict(StoreError):
    """What was asked for contradicts something the store holds; the text names it."""


class Busy(StoreError):
    """Another process holds what is needed; trying again later may work."""


class InvalidReference(StoreError):
    """A name given for an image, a tag or a container does not follow the grammar."""


class InvalidImage(StoreError):
    """A configuration, manifest or archive does not say what its format demands."""


class InvalidDigest(InvalidReference, InvalidImage):
    """A digest is not `sha256:` and 64 hexadecimal digits."""


class UnknownMediaType(InvalidImage):
    """A document or layer is of a kind this store cannot read."""


class DigestMismatch(InvalidImage):
    """Content does not have the digest it was announced with."""


class SizeMismatch(InvalidImage):
    """Content is longer or shorter than it was announced to be."""


class UnsafePath(InvalidImage):
    """An archive names a path that would lead out of the tree it is unpacked in."""


class LimitExceeded(InvalidImage):
    """An archive holds more than the limits allow, as a decompression bomb would."""


class WrongVersion(StoreError):
    """The store was written by a newer PyUnion than this one."""
