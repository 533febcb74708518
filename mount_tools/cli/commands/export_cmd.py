"""`pyunion export`: the filesystem of a container as one tar.

Source: docker/cli `cli/command/container/export.go`.
"""

from __future__ import annotations

from layerstore.operations.rootfs import export_container
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.ending import ended_by_signals
from mount_tools.cli.invocation import Invocation
from mount_tools.cli.output.output_file import opened
from mount_tools.cli.output.progress import reported
from mount_tools.container.user_namespace import read_all


@framework.command(
    "Export a container's filesystem as a tar archive",
    "CONTAINER",
    least=1,
    most=1,
    completes=named("container"),
)
@framework.text("-o", "--output", says="Write to a file, instead of STDOUT")
def export(invocation: Invocation, operands: tuple[str, ...], output: str | None) -> None:
    """A file with 1 MiB of holes or more is stored without them, in GNU's PAX format 1.0: GNU
    tar, bsdtar, Python, docker and podman can read that, busybox cannot."""
    store = invocation.store
    container = store.containers.resolve(operands[0])
    read_all(container)
    failed = "failed to export container"
    with ended_by_signals(), opened(output, failed) as out, reported() as report:
        export_container(store, container, out, report=report)
