"""`pyunion save`: write images to an archive that docker, podman and OCI tools can load.

Source: docker/cli `cli/command/image/save.go`; podman-save(1) for `--format`.
"""

from __future__ import annotations

from pathlib import Path

from layerstore.archive.save import DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_DIRECTORY
from layerstore.archive.save import save as save_images
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.ending import ended_by_signals
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import Invocation
from mount_tools.cli.output.output_file import opened
from mount_tools.cli.output.progress import reported
from mount_tools.container.user_namespace import read_all

FORMS = (DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_DIRECTORY)
FAILED = "failed to save image"


@framework.command(
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    "IMAGE [IMAGE...]",
    least=1,
    most=None,
    completes=named("image"),
)
@framework.text("-o", "--output", says="Write to a file, instead of STDOUT")
@framework.text(
    "--format",
    "form",
    says=f"One of {', '.join(FORMS)} (default {DOCKER_ARCHIVE}, which is an OCI layout too)",
    default=DOCKER_ARCHIVE,
)
@framework.flag("-q", "--quiet", says="Do not show progress")
def save(
    invocation: Invocation, operands: tuple[str, ...], output: str | None, form: str, quiet: bool
) -> None:
    if form not in FORMS:
        raise WrongWords(f'"{form}" is not a valid value for --format: {", ".join(FORMS)}', 1)
    store = invocation.store
    read_all()
    if form == OCI_DIRECTORY:
        if not output:
            raise WrongWords(f"{FAILED}: {OCI_DIRECTORY} creates a directory: name it by -o DIR", 1)
        with ended_by_signals(), reported(quiet=quiet) as report:
            save_images(store, operands, Path(output), form, report=report)
        return
    with ended_by_signals(), opened(output, FAILED) as out, reported(quiet=quiet) as report:
        save_images(store, operands, out, form, report=report)
