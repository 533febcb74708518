"""The container that `create` and `run` make: from a command line to a row in the store."""

from __future__ import annotations

from layerstore.containers.container import Container
from layerstore.errors import StoreError
from layerstore.images.images import Image
from layerstore.oci.json_values import Object
from layerstore.oci.platform import (
    Platform,
    parse_platform,
    platform_in,
    suits,
    this_platform,
)
from layerstore.oci.run_config import RunConfig
from layerstore.store import Store
from layerstore.volumes import VolumeUse
from mount_tools.cli.commands.container_flags import ContainerFlags, config_of
from mount_tools.cli.commands.image_to_run import image_to_run
from mount_tools.cli.invocation import Invocation, note
from mount_tools.container.host_config import host_config, volume_uses


def image_for(invocation: Invocation, name: str, flags: ContainerFlags) -> Image:
    """Return the image that the flags of a command line ask for, after a pull if they say so.

    Warns if it is for another platform than this machine's and none was asked for.  Raises
    StoreError, WrongWords.
    """
    wanted = parse_platform(flags.platform) if flags.platform else None
    image = image_to_run(invocation, name, flags.pull, quiet=flags.quiet, platform=wanted)
    found = platform_in(invocation.store.images.config(image).fields)
    if wanted is not None and not suits(found, wanted):
        raise StoreError(
            f"image with reference {name} was found but does not match the specified platform: "
            f"wanted {wanted}, actual: {found}: give --pull always, or `pyunion pull --platform` it"
        )
    if wanted is None and found.architecture and not suits(found, None):
        here = Platform("linux", *this_platform())
        note(
            f"WARNING: The requested image's platform ({found}) does not match the detected host "
            f"platform ({here}) and no specific platform was requested"
        )
    return image


def create_container(
    store: Store,
    image: Image,
    operands: tuple[str, ...],
    flags: ContainerFlags,
    *,
    runs: bool = True,
) -> Container:
    """Make a container of `image` with the flags of a command line, and its --cidfile.

    Raises StoreError, WrongWords, and the OSError of that file; no container is left then.
    """
    image_name, *command = operands
    config = config_of(store.images.config(image).config, image_name, flags, command, runs=runs)
    uses = _with_volumes_of_others(store, config)
    container = store.containers.create(
        image,
        name=flags.name or None,  # docker, too, takes an empty one for none
        image_name=image_name,
        config=config,
        auto_remove=flags.rm,
        volumes=uses,
        # One that runs at once and is removed at its end is not needed after a crash.
        durable=not (flags.rm and runs) or bool(uses),
    )
    try:
        if uses:
            from mount_tools.container.volume_content import fill_volumes

            fill_volumes(store, container)
        if flags.cidfile:
            from mount_tools.cli import id_file

            id_file.write(flags.cidfile, container.id)
    except BaseException:
        store.containers.remove(container, volumes=True)
        raise
    return container


def _with_volumes_of_others(store: Store, config: Object) -> list[VolumeUse]:
    """Return the volumes of a new container; binds of --volumes-from are added to `config`.

    Raises StoreError, also for a bind of something that does not exist.
    """
    host = host_config(RunConfig(config))
    host.refuse_missing()
    if not host.volumes_from:
        return volume_uses(RunConfig(config))
    from mount_tools.container.volumes_from import volumes_from

    binds, inherited = volumes_from(store, host.volumes_from, host.targets)
    config["HostConfig"] = host._replace(volumes=(*host.volumes, *binds)).fields
    return [*inherited, *volume_uses(RunConfig(config), [use.target for use in inherited])]
