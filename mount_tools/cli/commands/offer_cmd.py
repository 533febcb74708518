"""`pyunion offer`: let podman, buildah and skopeo use images without copying them."""

from __future__ import annotations

from pathlib import Path

from layerstore import Image, Store
from layerstore.errors import NotFound
from layerstore.operations.offer import offer as offer_images
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, note, say
from mount_tools.container.user_namespace import read_all
from unionfs.syscalls.privilege import is_machine_root


@framework.command(
    "Let podman and buildah use images of the store, without a copy of their layers",
    "DIRECTORY [IMAGE...]",
    least=1,
    most=None,
    completes=named("image"),
)
def offer(invocation: Invocation, operands: tuple[str, ...]) -> None:
    """Makes DIRECTORY an additional image store of containers/storage. It has the images that are
    named here, or all that have a name and lack no layer; those of an earlier call are replaced.
    The engines read it if storage.conf has additionalimagestores = ["DIRECTORY"]. They can run,
    mount, push, save and build upon these images. An image has to stay in the store of pyunion
    as long as it is offered. The engines of an ordinary user need mount_program and force_mask in
    storage.conf, since owners are in attributes of the files."""
    directory, *names = operands
    store = invocation.store
    of_machine = is_machine_root()
    read_all()
    if names:
        images = [store.images.resolve(name) for name in names]
    else:
        images = [image for image in store.images.all() if image.tags and _is_whole(store, image)]
    offer_images(store, Path(directory).absolute(), images)
    count = "1 image is" if len(images) == 1 else f"{len(images)} images are"
    say(f"{count} offered in {directory}")
    if not of_machine:
        say("the engine reads their owners with mount_program and force_mask in storage.conf")


def _is_whole(store: Store, image: Image) -> bool:
    """Tell whether no layer has lost its files, as one in an engine's store may; note it if so."""
    try:
        store.layers.chain(image.top)
    except NotFound as error:
        note(f"{image.tags[0]} is not offered: {error}")
        return False
    return True
