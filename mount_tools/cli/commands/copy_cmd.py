"""`pyunion copy`: images between registries and archives, without the store.

Source: skopeo-copy(1) for the names of places.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import gettempdir

from layerstore.errors import StoreError, shown
from layerstore.oci.platform import parse_platform
from layerstore.oci.reference import Reference, parse_reference
from mount_tools.cli import framework
from mount_tools.cli.commands.registry_client import registry_client
from mount_tools.cli.ending import ended_by_signals
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.output_file import opened
from mount_tools.cli.output.progress import announced
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from layerstore.progress import Report
    from layerstore.registry.client import Client
    from layerstore.registry.copy import Goal
    from layerstore.registry.origins import Origin

REGISTRY, DOCKER_ARCHIVE, OCI, OCI_ARCHIVE = "docker", "docker-archive", "oci", "oci-archive"
_NOT_HERE = ("containers-storage", "dir", "docker-daemon")  # of skopeo
_FAILED = "failed to copy the image"


class ImagePlace(NamedTuple):
    """The source or target of a copy: a name in a registry, or a path and a name in it."""

    kind: str
    path: str
    name: str


def parse_place(text: str) -> ImagePlace:
    """Return the place that `text` names; raises StoreError."""
    kind, colon, rest = text.partition(":")
    if kind == REGISTRY and rest.startswith("//"):
        return ImagePlace(REGISTRY, "", str(parse_reference(rest[2:])))
    if colon and kind in (DOCKER_ARCHIVE, OCI, OCI_ARCHIVE):
        path, _, name = rest.partition(":")
        if not path:
            raise StoreError(f'"{shown(text)}" names no file: use {kind}:PATH[:NAME]')
        return ImagePlace(kind, path, name)
    if kind in _NOT_HERE and (kind != "dir" or "/" in rest):  # else it is dir with a tag
        raise StoreError(
            f'"{shown(text)}" is a kind of place that only skopeo has: use a name in a '
            f"registry, {DOCKER_ARCHIVE}:, {OCI}: or {OCI_ARCHIVE}:"
        )
    return ImagePlace(REGISTRY, "", text)


@framework.command("Copy an image between registries and archives", "SRC DST", least=2, most=2)
@framework.flag("-a", "--all", "everything", says="Copy the whole index, not one platform of it")
@framework.flag("-q", "--quiet", says="Print the digest only")
@framework.text("--platform", says="Take the image for this platform of an index")
@framework.flag("--preserve-digests", says="Keep docker's manifests as they are in an OCI layout")
def copy(
    _: Invocation,
    /,
    operands: tuple[str, ...],
    everything: bool,
    quiet: bool,
    platform: str | None,
    preserve_digests: bool,
) -> None:
    """A place is a name in a registry, docker-archive:FILE[:NAME], oci:DIRECTORY[:NAME] or
    oci-archive:FILE[:NAME]. Nothing is unpacked. Between registries the digests stay the same. In
    an OCI layout docker's manifests are converted to OCI's, since podman and skopeo read only those
    there. A DIRECTORY that is a layout already keeps its images; if one of them has the same NAME,
    the name moves to the new image."""
    from layerstore.registry.copy import copy_image

    source, target = (parse_place(text) for text in operands)
    wanted = parse_platform(platform) if platform else None
    with ended_by_signals(), registry_client() as client, ExitStack() as stack:
        origin = stack.enter_context(_origin(client, source))
        report = stack.enter_context(announced(sys.stdout, quiet=quiet))
        goal = stack.enter_context(_goal(client, target, report))
        convert = target.kind in (OCI, OCI_ARCHIVE) and not preserve_digests
        copied = copy_image(origin, goal, platform=wanted, everything=everything, convert=convert)
    say(copied.digest if quiet else f"Digest: {copied.digest}")


def _in_registry(client: Client, place: ImagePlace) -> tuple[Reference, str]:
    """Return the name, which may be an alias of registries.conf, and its tag or digest."""
    reference = client.configuration.resolve(place.name).with_default_tag()
    return reference, str(reference.digest or reference.tag)


@contextmanager
def _origin(client: Client, place: ImagePlace) -> Iterator[Origin]:
    from layerstore.archive.members import open_members
    from layerstore.registry.origins import DockerOrigin, LayoutOrigin, RepositoryOrigin

    if place.kind == REGISTRY:
        reference, tag = _in_registry(client, place)
        yield RepositoryOrigin(client.repository(reference), tag)
        return
    # What is unpacked there has no name.
    members = open_members(Path(place.path), Path(gettempdir()))
    with closing(members):
        if place.kind == DOCKER_ARCHIVE:
            yield DockerOrigin(members, place.name)
        else:
            yield LayoutOrigin(members, place.name)


@contextmanager
def _goal(client: Client, place: ImagePlace, report: Report) -> Iterator[Goal]:
    from layerstore.archive.layout_writer import LayoutWriter
    from layerstore.archive.writer import DirectoryWriter, TarArchiveWriter
    from layerstore.registry.copy import ArchiveGoal, RegistryGoal
    from layerstore.registry.transfer import Transfer

    if place.kind == REGISTRY:
        reference, tag = _in_registry(client, place)
        target = client.repository(reference)
        yield RegistryGoal(target, tag, Transfer(report, cancel=client.cancel))
    elif place.kind == OCI and os.path.lexists(place.path):
        with closing(LayoutWriter(Path(place.path))) as layout:
            yield ArchiveGoal(layout, place.name, before=layout.index, report=report)
    elif place.kind == OCI:
        with closing(DirectoryWriter(Path(place.path))) as writer:
            yield ArchiveGoal(writer, place.name, report=report)
    else:
        docker = place.kind == DOCKER_ARCHIVE
        named = parse_reference(place.name).with_default_tag() if docker and place.name else None
        with opened(place.path, _FAILED) as stream:
            yield ArchiveGoal(
                TarArchiveWriter(stream),
                place.name,
                docker=docker,
                reference=named,
                report=report,
            )
