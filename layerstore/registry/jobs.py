"""The threads of a pull, a push or a copy: how they stop, and which error is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait

from layerstore.registry.errors import Cancelled
from unionfs.light_typing import TypeVar

# Media types of layers whose content may be outside of the registry.
FOREIGN = ("application/vnd.docker.image.rootfs.foreign", "application/vnd.oci.image.layer.nondist")

_Done = TypeVar("_Done")


class Stopped(Exception):
    """Another part of the pull failed; its error is the one to report."""


def finish(begun: Iterable[Future[_Done]], give_up: Callable[[], object]) -> list[Future[_Done]]:
    """Wait for the jobs; if one fails, or this thread is interrupted, give up the others.

    `begun` begins one job after the other: an interrupt may come before all have begun.
    `give_up` makes the jobs that run end.  The caller then waits for their threads.
    """
    jobs: list[Future[_Done]] = []
    are_all = False
    try:
        for job in begun:
            jobs.append(job)
        are_all = True
        wait(jobs, return_when=FIRST_EXCEPTION)
    finally:
        if not are_all or not all(job.done() and job.exception() is None for job in jobs):
            give_up()
            for job in jobs:
                job.cancel()
    return jobs


def raise_first(jobs: Sequence[Future[_Done]]) -> None:
    """Raise the error that made the others stop, if there is one."""
    errors = [job.exception() for job in jobs if job.done() and not job.cancelled()]
    found = [error for error in errors if error is not None]
    for error in found:
        if not isinstance(error, (Stopped, Cancelled)):
            raise error
    if found:
        raise found[0]
