"""`pyunion inspect`: all details of images and containers.

Source: docker/cli `cli/command/inspect/inspector.go`, `cli/command/system/inspect.go`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

from layerstore.containers.container import Container
from layerstore.errors import AmbiguousId, InvalidReference, NotFound
from layerstore.images.images import Image
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands.inspect_documents import (
    container_document,
    image_document,
    volume_document,
)
from mount_tools.cli.complete import named
from mount_tools.cli.errors import Exit, TemplateError, WrongWords
from mount_tools.cli.gotemplate.template import Template
from mount_tools.cli.gotemplate.values import Value, go_json
from mount_tools.cli.invocation import Invocation, complain, say

TEMPLATE_ERROR = 64
VOLUME = "volume"
TYPES = ("container", "image", VOLUME)

Document = dict[str, Value]


@framework.command(
    "Return low-level information on objects",
    "NAME|ID [NAME|ID...]",
    least=1,
    most=None,
    completes=named("image", "container", "volume"),
)
@framework.template("object", "-f")
@framework.flag("-s", "--size", says="Display total file sizes if the type is container")
@framework.text(
    "--type", "kind", says="Only objects of this type: container, image or volume", default=""
)
def inspect(
    invocation: Invocation, operands: tuple[str, ...], template: str | None, size: bool, kind: str
) -> None:
    """If several objects have the name, the container is shown, or else the image."""
    if kind and kind not in TYPES:
        raise WrongWords(f'"{kind}" is not a valid value for --type', 1)
    show(invocation, operands, template, (kind,) if kind else TYPES, size=size)


@framework.command(
    "Display detailed information on one or more images",
    "IMAGE [IMAGE...]",
    least=1,
    most=None,
    completes=named("image"),
)
@framework.template("image", "-f")
def inspect_image(invocation: Invocation, operands: tuple[str, ...], template: str | None) -> None:
    show(invocation, operands, template, ("image",), size=False)


@framework.command(
    "Display detailed information on one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@framework.template("container", "-f")
@framework.flag("-s", "--size", says="Display total file sizes")
def inspect_container(
    invocation: Invocation, operands: tuple[str, ...], template: str | None, size: bool
) -> None:
    show(invocation, operands, template, ("container",), size=size)


def show(
    invocation: Invocation,
    names: tuple[str, ...],
    template: str | None,
    kinds: tuple[str, ...],
    *,
    size: bool,
) -> None:
    """Print the objects of these `kinds` as `show_documents` does."""
    store = invocation.store
    show_documents(names, template, lambda name: _document(store, name, kinds, size=size))


def show_documents(
    names: tuple[str, ...], template: str | None, document: Callable[[str], Document]
) -> None:
    """Print the objects as one array or by the template; then the errors, and exit with 1.

    `document` raises NotFound for a name without an object.
    """
    render: Callable[[Document], str] | None = None
    if template and template != "json":
        try:
            render = Template(template).render
        except TemplateError as error:
            raise WrongWords(f"template parsing error: {error}", TEMPLATE_ERROR) from None
    found: list[Document] = []
    missing: list[str] = []
    for name in names:
        try:
            found.append(document(name))
        except NotFound as error:
            missing.append(str(error))
    if render is not None:
        _render(render, found)
    elif template:
        say(go_json(found))
    else:
        say(json.dumps(found, indent=4, ensure_ascii=False))
    for text in missing:
        complain(text)
    if missing:
        raise Exit(1)


def _render(render: Callable[[Document], str], found: list[Document]) -> None:
    """Print each object by the template on its own line; print an empty line if there is none.

    Raises TemplateError if the template does not fit an object; those before it are printed.
    """
    lines: list[str] = []
    try:
        lines.extend(map(render, found))
    finally:
        say("\n".join(lines))


def _document(store: Store, name: str, kinds: tuple[str, ...], *, size: bool) -> Document:
    try:
        found = resolved(store, name, kinds)
    except NotFound:
        # A volume's name may be anything that an id may begin with, so it comes last.
        with suppress(NotFound):
            if VOLUME in kinds:
                return volume_document(store, store.volumes.get(name))
        raise
    if isinstance(found, Image):
        return image_document(store, found)
    return container_document(store, found, size=size)


def resolved(store: Store, name: str, kinds: tuple[str, ...]) -> Image | Container:
    """Return the image or container with this name or id; earlier `kinds` come first.

    Raises NotFound.
    """
    for kind in kinds:
        try:
            if kind == "container":
                return store.containers.resolve(name)
            if kind == "image":
                return store.images.resolve(name)
        except NotFound:
            continue
        except AmbiguousId:
            raise
        except InvalidReference:
            continue
    what = kinds[0] if len(kinds) == 1 else "object"
    raise NotFound(f"No such {what}: {name}")
