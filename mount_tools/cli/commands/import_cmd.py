"""`pyunion import`: make an image of one layer from a root filesystem.

Source: docker/cli `cli/command/image/import.go`.
Differs from docker: a directory is accepted too, a URL is not.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from layerstore.containerfile.changes import apply_changes
from layerstore.oci.platform import parse_platform
from layerstore.oci.reference import parse_reference
from layerstore.operations.rootfs import import_image
from mount_tools.cli import framework
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.output_file import source
from mount_tools.cli.output.progress import reported
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

# docker writes this for every import, since its client streams files too.
MESSAGE = "Imported from -"
EMPTY = "requested import from stdin, but stdin is empty"


@framework.command(
    "Import the contents from a tarball or a directory to create a filesystem image",
    "file|directory|- [REPOSITORY[:TAG]]",
    least=1,
    most=2,
)
@framework.texts("-c", "--change", says="Apply Dockerfile instruction to the created image")
@framework.text("-m", "--message", says="Set commit message for imported image")
@framework.text("--platform", says="The platform that the image is for: OS/ARCH[/VARIANT]")
@framework.flag("-q", "--quiet", says="Do not show progress")
def import_(
    invocation: Invocation,
    operands: tuple[str, ...],
    change: tuple[str, ...],
    message: str | None,
    platform: str | None,
    quiet: bool,
) -> None:
    path, *names = operands
    if path.startswith(("http://", "https://")):
        raise WrongWords(
            f"{path}: URLs are not supported; download it: curl -L URL | pyunion import -", 1
        )
    # An error in the arguments must be reported before minutes of work, not after.
    reference = parse_reference(names[0]) if names else None
    config = apply_changes({}, change)
    wanted = parse_platform(platform) if platform else None
    with ExitStack() as stack:
        found: Path | BinaryIO
        if path != "-" and os.path.isdir(path):
            found = Path(path)
        else:
            found = stack.enter_context(source(None if path == "-" else path, EMPTY))
        report = stack.enter_context(reported(quiet=quiet))
        image = import_image(
            invocation.store_to_fill,
            found,
            reference,
            config=config,
            message=message or MESSAGE,
            platform=wanted,
            report=report,
        )
    say(image.id)
