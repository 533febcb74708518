"""`pyunion mount` and `pyunion umount`: a container's tree on a directory of the host."""

from __future__ import annotations

import os

from layerstore.containers.container import Container
from layerstore.errors import NoSuchContainer, NotFound, StoreError
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.container.mount import mount_container, unmount_container


@framework.command(
    "Mount a container's filesystem on a directory",
    "CONTAINER DIRECTORY",
    least=2,
    most=2,
    completes=named("container", last=0),
)
@framework.texts("-o", "--options", says="Mount options, as `mount.pyunion --help` lists them")
@framework.flag("--suid", says="Honour set-user-ID and set-group-ID bits of the files")
@framework.flag("--dev", says="Allow device files to be opened")
def mount(
    invocation: Invocation,
    operands: tuple[str, ...],
    options: tuple[str, ...],
    suid: bool,
    dev: bool,
) -> None:
    """Mount a container's filesystem, without running anything in it.

    The mount is nosuid and nodev unless -o, --suid or --dev says otherwise: its files come
    from an image, and every local user can reach them.  With -o noallow_other only the user
    who mounts can reach them.
    """
    name, directory = operands
    words = [*options, *(["suid"] if suid else []), *(["dev"] if dev else [])]
    container = _container(invocation.store, name)
    mount_container(invocation.store, container, directory, words)


def _container(store: Store, name: str) -> Container:
    """Return the container; raises NotFound, which says what to do if `name` is an image's."""
    try:
        return store.containers.resolve(name)
    except NoSuchContainer as error:
        try:
            store.images.resolve(name)
        except StoreError:
            raise error from None
        raise NotFound(
            f"{error}, but an image: `mount -t pyunion {name} DIRECTORY` mounts that"
        ) from None


@framework.command(
    "Unmount one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
def umount(invocation: Invocation, operands: tuple[str, ...]) -> None:
    containers = invocation.store.containers

    def unmount(name: str) -> None:
        try:
            container = containers.resolve(name)
        except StoreError:
            point = _resolved(name)
            mounted = [c for c in containers.list() if c.mount_point == point]
            if mounted:
                container = mounted[0]
            elif "/" in name:
                raise NotFound(
                    f"no container is mounted on {name}: umount(8) unmounts what else may be there"
                ) from None
            else:
                raise
        unmount_container(container)
        say(name)

    invocation.each(operands, unmount)


def _resolved(mount_point: str) -> str:
    """Return the path without symlinks, and without a look at what is mounted there."""
    folder, name = os.path.split(os.path.abspath(mount_point))
    return os.path.join(os.path.realpath(folder), name)
