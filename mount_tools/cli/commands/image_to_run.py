"""How `run`, `create` and `build` get their image: from the store, or by a pull.

Source: docker/cli `cli/command/container/create.go`.

A pull is imported only when there is one.
"""

from __future__ import annotations

from layerstore.errors import InvalidReference, NoSuchImage
from layerstore.images.images import Image
from layerstore.oci.platform import Platform
from layerstore.oci.reference import ENGINE_PREFIX, parse_reference
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import Invocation, note
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mount_tools.cli.commands.engine_image import Find

ALWAYS, MISSING, NEVER = "always", "missing", "never"


def image_to_run(
    invocation: Invocation,
    text: str,
    when: str,
    *,
    quiet: bool = False,
    platform: Platform | None = None,
    find: Find | None = None,
) -> Image:
    """Return the image that `text` names, after a pull if `when` says so.

    `when` is "always", "missing" or "never"; `platform` selects from an
    index that is pulled.  The output of the pull goes to stderr.  `find` finds the image of an
    engine for an ordinary user who is in the user namespace.
    """
    if when not in (ALWAYS, MISSING, NEVER):
        raise WrongWords(
            f'invalid pull option: "{when}": must be one of "always", "missing" or "never"', 125
        )
    if text.startswith(ENGINE_PREFIX):
        return _from_engine(invocation, text, find, quiet=quiet)
    store = invocation.store if when == NEVER else invocation.store_to_fill
    if when != ALWAYS:
        try:
            return store.images.resolve(text)
        except NoSuchImage as error:
            if when == NEVER or not _is_name(text):
                raise
            if not quiet:
                note(f"Unable to find image '{error.name}' locally")
    from mount_tools.cli.commands.pull_cmd import pull_to_run

    return pull_to_run(invocation, text, always=when == ALWAYS, quiet=quiet, platform=platform)


def _from_engine(invocation: Invocation, text: str, find: Find | None, *, quiet: bool) -> Image:
    from mount_tools.cli.commands.engine_image import load_engine_image

    (loaded, *_) = load_engine_image(invocation, text, quiet=quiet, find=find)
    return invocation.store.images.get(loaded.image)


def _is_name(text: str) -> bool:
    try:
        parse_reference(text)
    except InvalidReference:
        return False
    return True
