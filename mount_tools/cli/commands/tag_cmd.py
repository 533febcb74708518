"""`pyunion tag`: give an image another name."""

from __future__ import annotations

from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation


@framework.command(
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    least=2,
    most=2,
    completes=named("image"),
)
def tag(invocation: Invocation, operands: tuple[str, ...]) -> None:
    source, target = operands
    invocation.store.images.tag(invocation.store.images.resolve(source), target)
