"""`pyunion push`.

Source: docker/cli `cli/command/image/push.go`.
"""

from __future__ import annotations

import sys

from layerstore.oci.reference import familiar, parse_reference
from mount_tools.cli import framework
from mount_tools.cli.commands.registry_client import check_parallel, registry_client
from mount_tools.cli.complete import named
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.progress import announced
from mount_tools.container.user_namespace import read_all


@framework.command(
    "Upload an image to a registry", "NAME[:TAG]", least=1, most=1, completes=named("image")
)
@framework.flag("-a", "--all-tags", says="Push all tags of an image to the repository")
@framework.flag("-q", "--quiet", says="Suppress verbose output")
@framework.text(
    "--compression",
    says="Compress all layers with gzip or zstd; a level may follow, as zstd:19",
)
@framework.number("--parallel", says="Send this many layers at a time (default 5)", default=5)
@framework.flag(
    "--disable-content-trust", says="Accepted without effect: there is no content trust"
)
def push(
    invocation: Invocation,
    operands: tuple[str, ...],
    all_tags: bool,
    quiet: bool,
    compression: str | None,
    parallel: int,
    disable_content_trust: bool,
) -> None:
    """Layers that the repository has are not sent; those that another repository of the registry
    has are mounted from there. A layer that was pulled is sent unchanged; any other is
    compressed while it is sent."""
    from layerstore.registry.layers_out import parse_compression
    from layerstore.registry.push import push_image, tags_to_push
    from layerstore.registry.transfer import Transfer

    check_parallel(parallel)
    read_all()  # the files may belong to sub-ids
    name = parse_reference(operands[0])
    packing = parse_compression(compression) if compression else None
    if all_tags and (name.tag or name.digest):
        raise WrongWords("tag can't be used with --all-tags/-a", 1)
    if name.digest is not None:
        raise WrongWords("cannot push a digest reference", 1)
    tagged = name.with_default_tag()
    if not quiet:
        if not all_tags and name.tag is None:
            say("Using default tag: latest")
        say(f"The push refers to repository [{name.repository}]")
    names = tags_to_push(invocation.store, name.repository) if all_tags else [tagged]
    with registry_client() as client:
        target = client.repository(name)
        for one in names:
            with announced(sys.stdout, quiet=quiet) as report:
                transfer = Transfer(report, parallel, client.cancel)
                pushed = push_image(
                    invocation.store, target, one, compression=packing, transfer=transfer
                )
            if not quiet:
                say(f"{one.tag}: digest: {pushed.digest} size: {pushed.size}")
    if quiet:
        say(familiar(name if all_tags else tagged))
