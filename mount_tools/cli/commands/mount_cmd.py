"""`pyunion mount` and `pyunion umount`: a container's tree on a directory of the host."""

from __future__ import annotations

from layerstore.errors import StoreError
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
    container = invocation.store.containers.resolve(name)
    mount_container(invocation.store, container, directory, words)


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
            mounted = [c for c in containers.list() if c.mount_point == name]
            if not mounted:
                raise
            container = mounted[0]
        unmount_container(container)
        say(name)

    invocation.each(operands, unmount)
