"""`pyunion rmi`: remove images, or some of their names."""

from __future__ import annotations

from layerstore.errors import NoSuchImage, NotFound
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.container.user_namespace import read_all


@framework.command(
    "Remove one or more images", "IMAGE [IMAGE...]", least=1, most=None, completes=named("image")
)
@framework.flag("-f", "--force", says="Force removal of the image")
@framework.flag("--no-prune", says="Do not delete untagged parents")
def rmi(invocation: Invocation, operands: tuple[str, ...], force: bool, no_prune: bool) -> None:
    read_all()  # the files may belong to sub-ids

    def remove(name: str) -> None:
        try:
            removed = invocation.store.images.remove(name, force=force, prune=not no_prune)
        except NotFound:
            raise NoSuchImage(name) from None
        for what, text in removed:
            say(f"{what}: {text}")

    invocation.each(operands, remove, harmless=(NotFound,) if force else ())
