"""`pyunion version` and `pyunion info`: the version, and the state of the store."""

from __future__ import annotations

import os
import platform
import sys

from layerstore.errors import StoreError
from mount_tools.cli import framework
from mount_tools.cli.gotemplate.template import Template
from mount_tools.cli.gotemplate.values import Value
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.human import human_size
from mount_tools.cli.output.listing import as_json
from mount_tools.version import own_version


@framework.command("Show the versions of PyUnion, Python and the kernel")
@framework.text("-f", "--format", "template", says="Print by a Go template")
@framework.flag("--json", "json", says="Print a JSON object")
def version(_: Invocation, /, template: str | None, json: bool) -> None:
    found: dict[str, Value] = {
        "Version": own_version(),
        "Python": platform.python_version(),
        "Kernel": platform.release(),
        "Os": sys.platform,
        "Arch": platform.machine(),
    }
    show(found, template, json=json)


@framework.command("Display information about the store")
@framework.text("-f", "--format", "template", says="Print by a Go template")
@framework.flag("--json", "json", says="Print a JSON object")
def info(invocation: Invocation, template: str | None, json: bool) -> None:
    from mount_tools.container.default_profile import default_shown

    store = invocation.store
    containers = store.containers.list()
    running = sum(container.running for container in containers)
    disk = os.statvfs(
        next(path for path in (invocation.root, *invocation.root.parents) if path.exists())
    )
    free = disk.f_bavail * disk.f_frsize
    found: dict[str, Value] = {
        "Root": str(invocation.root),
        "Containers": len(containers),
        "ContainersRunning": running,
        "ContainersStopped": len(containers) - running,
        "Images": len(store.images.all()),
        "Layers": len(store.layers.all()),
        "DiskFree": free,
        "Sync": store.durability.sync,
        "Registries": _registry_sources(),
        "Seccomp": default_shown(),
        "Version": own_version(),
        "Kernel": platform.release(),
    }
    if os.geteuid() != 0:
        found["Users"] = _users()
    show(found, template, json=json, plain={"DiskFree": human_size(free)})


def _users() -> str:
    """Return which users the containers of an ordinary user have, and why if it is only root."""
    from mount_tools.container.sub_ids import count, why_single

    reason = why_single()
    return f"root and {count()} others" if reason is None else f"only root: {reason}"


def _registry_sources() -> list[Value]:
    """Return the files and variables that configure registries, and the purpose of each."""
    from layerstore.registry.client import Client

    try:
        with Client() as client:
            return [f"{source.path} ({source.what})" for source in client.sources()]
    except StoreError as error:
        return [f"error: {error}"]


def show(
    found: dict[str, Value],
    template: str | None,
    *,
    json: bool,
    plain: dict[str, Value] | None = None,
) -> None:
    """Print a name and a value on each line, or by the template, or as JSON.

    `plain` are values as the lines show them.
    """
    from textwrap import dedent

    if template and template != "json":
        say(Template(template).render(found))
    elif json or template:
        say(dedent(as_json([found]).removeprefix("[\n").removesuffix("\n]\n")))
    else:
        width = max(map(len, found)) + 2
        lines = {**found, **(plain or {})}
        say("\n".join(f"{name + ':':{width}} {_in_lines(lines[name], width)}" for name in lines))


def _in_lines(value: Value, width: int) -> str:
    """Return a value as text; each of several has its own line, beneath the first."""
    if isinstance(value, list):
        return f"\n{'':{width}} ".join(map(str, value)) or "none"
    return str(value)
