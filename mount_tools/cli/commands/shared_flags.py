"""Flags that several commands on containers have."""

from __future__ import annotations

from collections.abc import Callable

from mount_tools.cli import framework
from mount_tools.container.detach_keys import DEFAULT
from unionfs.light_typing import TypeVar

Decorated = TypeVar("Decorated", bound=Callable[..., object])


def stop_time(function: Decorated) -> Decorated:
    """Add the flag `-t`; the function gets it as `time`: seconds, below 0 if it was left out."""
    return framework.number(
        "-t",
        "--time",
        says="Seconds to wait before killing the container (10, or its --stop-timeout)",
        default=-1,
    )(function)


def detach_keys(function: Decorated) -> Decorated:
    """Add the flag `--detach-keys`; the function gets it as `keys`."""
    return framework.text(
        "--detach-keys",
        "keys",
        says="Override the key sequence for detaching a container",
        default=DEFAULT,
    )(function)
