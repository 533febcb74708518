"""The names of images: docker's grammar, its defaults and its error texts.

Decided here and only here: how a name is parsed, what its full form is
("debian" is docker.io/library/debian) and how it is shown.

Source: distribution/reference `regexp.go`, `normalize.go`.
"""

from __future__ import annotations

import re

from layerstore.errors import InvalidReference, shown
from layerstore.oci.digest import Digest
from unionfs.light_typing import NamedTuple

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
# Before the name of an image that podman or buildah has; see `layerstore.archive.engine_store`.
ENGINE_PREFIX = "containers-storage:"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_NAME_MAX = 255

_DOMAIN = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = (
    rf"(?P<name>{_DOMAIN}/{_COMPONENT}(?:/{_COMPONENT})*)"
    rf"(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_HEX64 = r"[a-f0-9]{64}"


class Reference(NamedTuple):
    """The name of an image: the full `repository`, and a tag or digest in it."""

    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def domain(self) -> str:
        return self.repository.partition("/")[0]

    @property
    def path(self) -> str:
        """The repository without its domain."""
        return self.repository.partition("/")[2]

    def with_default_tag(self) -> Reference:
        """Return this reference, with the tag `latest` if it has neither tag nor digest."""
        if self.tag is None and self.digest is None:
            return self._replace(tag=DEFAULT_TAG)
        return self

    def __str__(self) -> str:
        """The reference in full."""
        return self.repository + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Return the reference in `text`; raises InvalidReference in docker's words."""
    if re.fullmatch(_HEX64, text):
        raise InvalidReference(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, rest = _split_domain(text)
    name = rest.partition(":")[0]
    if name != name.lower():
        raise InvalidReference(
            f"invalid reference format: repository name ({shown(name)}) must be lowercase"
        )
    found = re.fullmatch(_REFERENCE, f"{domain}/{rest}")
    if found is None:
        raise InvalidReference("invalid reference format")
    if len(found["name"]) > _NAME_MAX:
        raise InvalidReference("repository name must not be more than 255 characters")
    digest = Digest.parse(found["digest"]) if found["digest"] else None
    return Reference(found["name"], found["tag"], digest)


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    is_domain = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not is_domain:
        domain, rest = DEFAULT_DOMAIN, text
    else:
        domain = DEFAULT_DOMAIN if first == _LEGACY_DOMAIN else first
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return domain, rest


def parse_tag_target(text: str | Reference) -> Reference:
    """Return the reference an image can be tagged with; raises InvalidReference."""
    if isinstance(text, Reference):
        reference = text
    else:
        try:
            reference = parse_reference(text)
        except InvalidReference as error:
            raise InvalidReference(
                f'error parsing reference: "{shown(text)}" is not a valid repository/tag: {error}'
            ) from None
    if reference.digest is not None:
        raise InvalidReference("refusing to create a tag with a digest reference")
    if familiar_name(reference.repository) == "sha256":
        raise InvalidReference("refusing to create an ambiguous tag using digest algorithm as name")
    return reference.with_default_tag()


def familiar_name(repository: str) -> str:
    """Return the short form of `repository`: "debian" for docker.io/library/debian."""
    domain, _, path = repository.partition("/")
    if domain != DEFAULT_DOMAIN:
        return repository
    short = path.removeprefix(_OFFICIAL)
    if "/" not in short:
        return short
    # Docker's own short form of docker.io/docker.io/name is another repository.
    return path if _split_domain(path) == (domain, path) else repository


def familiar(reference: Reference) -> str:
    """Return the short form of `reference`: "debian:12", "host/x@sha256:…"."""
    return familiar_name(reference.repository) + reference._suffix()
