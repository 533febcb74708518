"""`pyunion build`: make an image from a Containerfile.

Source: docker/cli `cli/command/image/build.go`.
Differs from docker: a context is a directory or a tar on stdin, never a URL; the network of
a RUN is the host's own, or none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from layerstore.build.cache import BuildCache
from layerstore.build.plan import make_plan
from layerstore.containerfile.parse import parse
from layerstore.db.build_table import FileDigests, ParsedFiles
from layerstore.errors import NoSuchImage, StoreError
from layerstore.images.images import Image
from layerstore.oci.documents import ImageConfig
from layerstore.oci.platform import (
    Platform,
    parse_platform,
    platform_in,
    suits,
    this_platform,
)
from layerstore.oci.reference import Reference, familiar, parse_tag_target
from layerstore.store import Store
from mount_tools.build.builder import Builder, Settings
from mount_tools.build.evaluate import GivenFiles, StepError
from mount_tools.build.given_context import opened
from mount_tools.build.request import (
    build_arguments,
    checked_network,
    extra_hosts,
    labels,
    read_secrets,
    rights,
    source_date_epoch,
)
from mount_tools.build.stage_container import sweep
from mount_tools.build.watch import Watcher
from mount_tools.cli import framework, id_file
from mount_tools.cli.commands.image_to_run import ALWAYS, MISSING, image_to_run
from mount_tools.cli.ending import ended_by_signals
from mount_tools.cli.errors import Exit, WrongWords
from mount_tools.cli.invocation import Invocation, complain, say
from mount_tools.cli.output.build_lines import Lines, Silent
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from layerstore.build.download import Downloads
    from mount_tools.build.engine_finder import EngineFinder
    from mount_tools.container.rights import Rights

_PROGRESS = ("auto", "plain", "tty")


class _Flags(NamedTuple):
    """The flags of `build`."""

    tag: tuple[str, ...]
    file: str | None
    target: str
    build_arg: tuple[str, ...]
    label: tuple[str, ...]
    secret: tuple[str, ...]
    platform: str | None
    progress: str
    iidfile: str | None
    cache_from: tuple[str, ...]
    network: str
    add_host: tuple[str, ...]
    security_opt: tuple[str, ...]
    cap_add: tuple[str, ...]
    cap_drop: tuple[str, ...]
    ulimit: tuple[str, ...]
    squash: bool
    rm: bool
    force_rm: bool
    no_cache: bool
    pull: bool
    quiet: bool


@framework.command(
    "Build an image from a Containerfile",
    "PATH | -",
    least=1,
    most=1,
)
@framework.texts("-t", "--tag", says="Name of the image, NAME[:TAG]; may be repeated")
@framework.text("-f", "--file", says="Path of the Containerfile (default PATH/Containerfile)")
@framework.text("--target", says="Build this stage", default="")
@framework.texts("--build-arg", says="Set a build argument, NAME[=VALUE]")
@framework.texts("--label", says="Set a label of the image, NAME=VALUE")
@framework.texts(
    "--secret", says="A secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]"
)
@framework.text("--platform", says="Platform of the image, as linux/arm64")
@framework.text("--progress", says="How to show the build: auto, plain or tty", default="auto")
@framework.text("--iidfile", says="Write the image ID to the file")
@framework.texts("--cache-from", says="Use the steps of this image as cache; may be repeated")
@framework.text("--network", says="The network of RUN: default, host or none", default="default")
@framework.texts("--add-host", says="Add a line to the /etc/hosts of RUN, NAME:ADDRESS")
@framework.texts(
    "--security-opt",
    says="Security options of RUN: no-new-privileges, seccomp=FILE, seccomp=unconfined",
)
@framework.texts("--cap-add", says="Add Linux capabilities to RUN, as MKNOD")
@framework.texts("--cap-drop", says="Drop Linux capabilities of RUN")
@framework.texts("--ulimit", says="A limit of RUN, NAME=SOFT[:HARD], as nofile=1024:4096")
@framework.flag("--squash", says="Make one layer of those that the build makes")
@framework.flag("--rm", says="Remove the container of a stage that is done", default=True)
@framework.flag("--force-rm", says="Remove the container of a step that fails too")
@framework.flag("--no-cache", says="Do every step again")
@framework.flag("--pull", says="Pull the images of FROM again")
@framework.flag("-q", "--quiet", says="Print the image ID only")
@framework.as_one(_Flags)
def build(invocation: Invocation, operands: tuple[str, ...], flags: _Flags) -> None:
    """Each step that changes files becomes a layer by a rename, and a later build takes it from
    the cache. Exits with the status of the command if a RUN fails, and with 1 if the build
    fails for another reason."""
    if flags.progress not in _PROGRESS:
        raise WrongWords(
            f'invalid progress "{flags.progress}": must be one of {", ".join(_PROGRESS)}', 125
        )
    if operands[0] == "-" and flags.file == "-":
        raise WrongWords(
            "invalid argument: can't use stdin for both build context and dockerfile", 1
        )
    names, request = _request(operands[0], flags)
    if flags.iidfile:
        id_file.remove(flags.iidfile)
    with ended_by_signals():
        watcher = _watcher(flags.progress, quiet=flags.quiet)
        try:
            image = _build(invocation, request, names, watcher)
        except StepError as error:
            watcher.close()
            complain(str(error))
            raise Exit(error.status or 1) from None
        finally:
            watcher.close()
    if flags.iidfile:
        id_file.remove(flags.iidfile)
        id_file.write(flags.iidfile, image.id)
    if flags.quiet:
        say(image.id)


class _Request(NamedTuple):
    """What to build, as the command line says."""

    context: str
    flags: _Flags
    arguments: dict[str, str]
    labels: list[tuple[str, str]]
    secrets: dict[str, bytes]
    platform: Platform | None
    epoch_ns: int | None
    network: str
    extra_hosts: tuple[str, ...]
    rights: Rights | None


def _request(context: str, flags: _Flags) -> tuple[list[Reference], _Request]:
    """Return the names of the image, and what to build."""
    # What docker's client refuses is a usage error, the rest is an error of the build.
    with _usage_errors():
        given = build_arguments(flags.build_arg, os.environ)
        names = [parse_tag_target(name) for name in flags.tag]
        told_labels, hosts = labels(flags.label), extra_hosts(flags.add_host)
        of_run = rights(flags.security_opt, flags.ulimit, flags.cap_add, flags.cap_drop)
    return names, _Request(
        context,
        flags,
        given,
        told_labels,
        read_secrets(flags.secret, os.environ),
        parse_platform(flags.platform) if flags.platform else None,
        source_date_epoch(given, os.environ),
        checked_network(flags.network),
        hosts,
        of_run,
    )


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise WrongWords(f"{error}\nSee 'pyunion build --help'.", 125) from None


def _build(
    invocation: Invocation,
    request: _Request,
    names: list[Reference],
    watcher: Watcher,
) -> Image:
    here = Platform("linux", *this_platform())
    with ExitStack() as stack:
        finder = stack.enter_context(_as_root())
        store = invocation.store_to_fill
        content, name, context = stack.enter_context(
            opened(store, request.context, request.flags.file, sys.stdin.buffer)
        )
        containerfile = parse(content, name, ParsedFiles(store.database))
        for warning in containerfile.warnings:
            watcher.note(f"{warning.at}: warning: {warning.text}")
        plan = make_plan(
            containerfile,
            target=request.flags.target,
            given=request.arguments,
            platform=request.platform or here,
            here=here,
        )

        settings = _settings(invocation, request, here, watcher, finder)
        stack.enter_context(store.reserve.growing())
        stack.enter_context(store.leases.lease("work", "build"))
        sweep(store, watcher.note)
        memo = FileDigests(store.database)
        stack.callback(_keep_digests, memo)
        cache = BuildCache(store)
        made: list[Downloads] = []

        def downloads() -> Downloads:
            from layerstore.build.download import Downloads

            if not made:
                made.append(stack.enter_context(Downloads(store.staging.path)))
            return made[0]

        files = GivenFiles(context, memo, downloads)
        image = Builder(store, plan, files, settings, watcher, cache).build()
        _note_unused(plan.arguments.unused(), watcher)
        for reference in names:
            store.images.tag(image, reference)
    watcher.succeeded(image.id.short, [familiar(name) for name in names])
    return store.images.get(image.id)


def _keep_digests(memo: FileDigests) -> None:
    """Keep the digests that were computed: they are correct even if the build fails."""
    with suppress(StoreError):  # a full disk, which is said already
        memo.flush()


@contextmanager
def _as_root() -> Iterator[EngineFinder | None]:
    """Let an ordinary user be root of a user namespace; yield what finds images outside of it."""
    if os.geteuid() == 0:
        yield None
        return
    from mount_tools.build.engine_finder import EngineFinder
    from mount_tools.container.user_namespace import be_root

    finder = EngineFinder()
    try:
        be_root()
        yield finder
    finally:
        finder.close()


def _settings(
    invocation: Invocation,
    request: _Request,
    here: Platform,
    watcher: Watcher,
    finder: EngineFinder | None,
) -> Settings:
    flags = request.flags
    return Settings(
        lambda text, platform: _image(invocation, request, finder, text, platform),
        request.secrets,
        request.labels,
        use_cache=not flags.no_cache,
        cache_from=_configs(invocation.store, flags.cache_from, watcher),
        epoch_ns=request.epoch_ns,
        platform=request.platform or here,
        network=request.network,
        extra_hosts=request.extra_hosts,
        remove=flags.rm,
        force_remove=flags.force_rm,
        squash=flags.squash,
        rights=request.rights,
    )


def _note_unused(arguments: Sequence[str], watcher: Watcher) -> None:
    unused = " ".join(name for name in arguments if name != "SOURCE_DATE_EPOCH")
    if unused:
        watcher.note(f"[Warning] One or more build-args [{unused}] were not consumed")


def _image(
    invocation: Invocation,
    request: _Request,
    finder: EngineFinder | None,
    text: str,
    platform: Platform | None,
) -> Image:
    """Return the image `text` of a FROM; raises StoreError if it is for another platform."""
    wanted = platform or request.platform
    when = ALWAYS if request.flags.pull else MISSING
    find = None if finder is None else finder.find
    image = image_to_run(
        invocation, text, when, quiet=request.flags.quiet, platform=wanted, find=find
    )
    if wanted is None:
        return image
    found = platform_in(invocation.store.images.config(image).fields)
    if not suits(found, wanted):
        raise StoreError(
            f"the image {text} is here for {found}, but the build is for {wanted}: "
            f"pull it first with `pyunion pull --platform {wanted} {text}`"
        )
    return image


def _configs(store: Store, names: Sequence[str], watcher: Watcher) -> list[ImageConfig]:
    """Return the configurations of the images of `--cache-from`; warn of a missing one."""
    found = []
    for name in names:
        try:
            found.append(store.images.config(store.images.resolve(name)))
        except NoSuchImage:
            watcher.note(f"--cache-from {name}: the store has no such image; pull or load it first")
    return found


def _watcher(progress: str, *, quiet: bool) -> Watcher:
    if quiet:
        return Silent(sys.stderr)
    if progress == "plain" or (progress == "auto" and not sys.stdout.isatty()):
        return Lines(sys.stdout)
    from mount_tools.cli.output.build_screen import Screen

    return Screen(sys.stdout)
