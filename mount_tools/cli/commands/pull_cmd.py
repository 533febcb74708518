"""`pyunion pull`, and how `run` and `create` pull an image that the store does not have.

Source: docker/cli `cli/command/image/pull.go`, `cli/command/container/create.go`.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from layerstore.errors import NoSuchImage, StoreError
from layerstore.images.images import Image
from layerstore.oci.platform import Platform, parse_platform
from layerstore.oci.reference import Reference, familiar, familiar_name, parse_reference
from mount_tools.cli import framework
from mount_tools.cli.commands.registry_client import check_parallel, registry_client
from mount_tools.cli.complete import named
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import Invocation, note, say
from mount_tools.cli.output.progress import announced
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.progress import Report


@framework.command(
    "Download an image from a registry",
    "NAME[:TAG|@DIGEST]",
    least=1,
    most=1,
    completes=named("image"),
)
@framework.flag("-a", "--all-tags", says="Download all tagged images in the repository")
@framework.flag("-q", "--quiet", says="Suppress verbose output")
@framework.text(
    "--platform", says="Take the image for this platform, os/arch or os/arch/variant, of an index"
)
@framework.number("--parallel", says="Fetch this many layers at a time (default 3)", default=3)
@framework.flag(
    "--disable-content-trust", says="Accepted without effect: there is no content trust"
)
def pull(
    invocation: Invocation,
    operands: tuple[str, ...],
    all_tags: bool,
    quiet: bool,
    platform: str | None,
    parallel: int,
    disable_content_trust: bool,
) -> None:
    """A pull that was interrupted continues where it stopped. Layers that the store has are not
    fetched again, and several layers are fetched at a time."""
    check_parallel(parallel)
    name = full_name(operands[0])
    wanted = parse_platform(platform) if platform else None
    if all_tags and (name.tag or name.digest):
        raise WrongWords("tag can't be used with --all-tags/-a", 1)
    if not all_tags and name.tag is None and name.digest is None and not quiet:
        say("Using default tag: latest")
    if all_tags:
        _pull_all(invocation, name, wanted, parallel, quiet=quiet)
        return
    with announced(sys.stdout, quiet=quiet) as report:
        changed = fetch(invocation, name.with_default_tag(), wanted, report, parallel)
    if not quiet:
        say(_status(_asked(name.with_default_tag()), changed=changed))
    say(str(name.with_default_tag()))


def _pull_all(
    invocation: Invocation, name: Reference, wanted: Platform | None, parallel: int, *, quiet: bool
) -> None:
    from layerstore.registry.pull import pull_all
    from layerstore.registry.transfer import Transfer

    with registry_client() as client, announced(sys.stdout, quiet=quiet) as report:
        transfer = Transfer(report, parallel, client.cancel)
        pulled = pull_all(
            invocation.store_to_fill, client.repository(name), platform=wanted, transfer=transfer
        )
    if not pulled:
        raise StoreError(f"{familiar(name)} has no tags")
    if not quiet:
        changed = any(one.changed for one in pulled)
        say(_status(familiar_name(name.repository), changed=changed))
    say(name.repository)


def _asked(name: Reference) -> str:
    """Return the name that the registry was asked for: a tag beside a digest is not sent."""
    return familiar(name if name.digest is None else name._replace(tag=None))


def _status(name: str, *, changed: bool) -> str:
    what = "Downloaded newer image" if changed else "Image is up to date"
    return f"Status: {what} for {name}"


def fetch(
    invocation: Invocation,
    name: Reference,
    platform: Platform | None,
    report: Report,
    parallel: int | None = None,
) -> bool:
    """Pull one image; tell whether its name now means another image than before."""
    from layerstore.registry.pull import pull_image
    from layerstore.registry.transfer import Transfer

    with registry_client() as client:
        pulled = pull_image(
            invocation.store_to_fill,
            client.repository(name),
            name,
            platform=platform,
            transfer=Transfer(report, parallel, client.cancel),
        )
    return pulled.changed


def pull_to_run(
    invocation: Invocation, text: str, *, always: bool, quiet: bool, platform: Platform | None
) -> Image:
    """Pull the image that `text` names, and return it.  The output goes to stderr.

    Unless `always`, an image in the store is returned if `text` is a short name of it.
    """
    name = full_name(text).with_default_tag()
    if not always and name != parse_reference(text).with_default_tag():
        with suppress(NoSuchImage):  # a short name may be an alias of an image in the store
            return invocation.store.images.resolve(str(name))
    with announced(sys.stderr, quiet=quiet) as report:
        changed = fetch(invocation, name, platform, report)
    if not quiet:
        note(_status(_asked(name), changed=changed))
    return invocation.store.images.resolve(str(name))


def full_name(text: str) -> Reference:
    """Return the reference in `text`; registries.conf expands a short name."""
    parse_reference(text)
    from layerstore.registry.config import Configuration

    return Configuration.read().resolve(text)
