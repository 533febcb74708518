"""`pyunion run`: a command in a new container.

Source: docker/cli `cli/command/container/run.go`.
Differs from docker: the network is the host's own; an ordinary user is root of a user
namespace.

It imports only what it uses itself: its keeper has imported the rest by then.
"""

from __future__ import annotations

from layerstore.errors import StoreError
from mount_tools.cli import framework
from mount_tools.cli.commands.container_flags import ContainerFlags, container_flags
from mount_tools.cli.commands.new_container import create_container, image_for
from mount_tools.cli.commands.run_status import discard, exit_with, take_stdin
from mount_tools.cli.commands.shared_flags import detach_keys
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.container.detach_keys import parse_keys
from mount_tools.container.handshake import CannotStart
from mount_tools.container.host_config import HostConfig
from mount_tools.container.start import run_container, start_container
from mount_tools.container.user_namespace import be_root
from mount_tools.container.viewer import PassedOn


@framework.command(
    "Run a command in a new container",
    "IMAGE [COMMAND] [ARG...]",
    least=1,
    most=None,
    interspersed=False,
    completes=named("image"),
)
@container_flags
@framework.flag("-d", "--detach", says="Run container in background and print container ID")
@framework.flag("--sig-proxy", says="Proxy received signals to the process", default=True)
@detach_keys
@framework.as_one(ContainerFlags)
def run(
    invocation: Invocation,
    operands: tuple[str, ...],
    flags: ContainerFlags,
    detach: bool,
    sig_proxy: bool,
    keys: str,
) -> None:
    """Exits with the status of the command; with 125 if the container cannot be started, 126 if
    the command cannot be run, and 127 if it does not exist. The container keeps running if
    this command is killed, its terminal is closed, or the detach keys are typed. IMAGE may be
    containers-storage:NAME, an image of podman or buildah; see pyunion-load(1)."""
    passed_on = PassedOn(flags.interactive, parse_keys(keys), sig_proxy)

    def work() -> int:
        if flags.cidfile:
            from mount_tools.cli import id_file

            id_file.refuse_used(flags.cidfile)
        if flags.cap_add:
            added, dropped = flags.cap_add, flags.cap_drop
            host = HostConfig(privileged=flags.privileged, cap_add=added, cap_drop=dropped)
            invocation.protect(host)
        image = image_for(invocation, operands[0], flags)
        store = invocation.store
        be_root()
        if not detach:
            take_stdin(flags.interactive, flags.tty)
        container = create_container(store, image, operands, flags)
        try:
            if not detach:
                return run_container(store, container, passed_on, invocation.take_keeper())
            start_container(store, container, invocation.take_keeper(), stdin=flags.interactive)
        except (StoreError, CannotStart, OSError):
            if flags.rm:
                discard(store, container)
            raise
        say(container.id)
        return 0

    exit_with(work)
