"""`pyunion load`: load images from an archive of docker or OCI.

Source: docker/cli `cli/command/image/load.go`; moby `daemon/internal/image/tarexport/load.go`.
"""

from __future__ import annotations

import os
from pathlib import Path

from layerstore.archive.load import Loaded
from layerstore.archive.load import load as load_images
from layerstore.oci.platform import parse_platform
from layerstore.oci.reference import ENGINE_PREFIX, familiar
from mount_tools.cli import framework
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.output_file import source
from mount_tools.cli.output.progress import reported

EMPTY = "requested load from stdin, but stdin is empty"


@framework.command("Load an image from a tar archive or STDIN")
@framework.text(
    "-i", "--input", says="Read from tar archive file or OCI directory, instead of STDIN"
)
@framework.text(
    "--platform", says="Load only the image for this platform, os/arch or os/arch/variant"
)
@framework.flag("-q", "--quiet", says="Suppress the load output")
def load(invocation: Invocation, input: str | None, platform: str | None, quiet: bool) -> None:
    """Reads what docker, podman, skopeo and buildah write: docker archives, OCI layouts as a tar
    or a directory, and the dir: layout. From an image index it loads the image for this machine.
    An OCI image whose name is only a tag gets the name of its file or directory.

    -i containers-storage:IMAGE takes an image of podman or buildah, and -i
    containers-storage:[DIRECTORY]IMAGE one of a store elsewhere. Its layers are not copied: they
    stay in that store, and must not be removed from it. The engines of an ordinary user have a
    store of that user."""
    wanted = parse_platform(platform) if platform else None
    if input and input.startswith(ENGINE_PREFIX):
        from mount_tools.cli.commands.engine_image import load_engine_image

        _say(load_engine_image(invocation, input, quiet=quiet))
        return
    with reported(quiet=quiet) as report:
        if input and os.path.isdir(input):
            loaded = load_images(
                invocation.store_to_fill, Path(input), platform=wanted, report=report
            )
        else:
            with source(input, EMPTY) as stream:
                loaded = load_images(
                    invocation.store_to_fill,
                    stream,
                    platform=wanted,
                    name=os.path.basename(input or ""),
                    report=report,
                )
    _say(loaded)


def _say(loaded: list[Loaded]) -> None:
    for image, name, renamed in loaded:
        if name is not None and renamed is not None:
            say(
                f"The image {familiar(name)} already exists, renaming the old one with "
                f"ID {renamed} to empty string"
            )
        say(f"Loaded image: {familiar(name)}" if name else f"Loaded image ID: {image}")
