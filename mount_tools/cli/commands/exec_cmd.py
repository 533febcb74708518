"""`pyunion exec`: one more command in a running container.

Source: docker/cli `cli/command/container/exec.go`.
"""

from __future__ import annotations

from layerstore.errors import Conflict
from layerstore.oci.run_config import RunConfig
from mount_tools.cli import framework
from mount_tools.cli.commands.container_flags import ContainerFlags, config_of
from mount_tools.cli.commands.run_status import exit_with, take_stdin
from mount_tools.cli.commands.shared_flags import detach_keys
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation
from mount_tools.container.detach_keys import parse_keys
from mount_tools.container.host_config import host_config
from mount_tools.container.start import exec_detached, exec_in_container
from mount_tools.container.viewer import PassedOn
from unionfs.light_typing import NamedTuple


class _Flags(NamedTuple):
    """The flags of `exec`."""

    env: tuple[str, ...]
    env_file: tuple[str, ...]
    workdir: str | None
    user: str | None
    interactive: bool
    tty: bool
    detach: bool
    keys: str


@framework.command(
    "Run a command in a running container",
    "CONTAINER COMMAND [ARG...]",
    least=2,
    most=None,
    interspersed=False,
    completes=named("container"),
)
@framework.texts("-e", "--env", says="Set environment variables")
@framework.text("-w", "--workdir", says="Working directory inside the container")
@framework.text("-u", "--user", says="Username or UID (format: <name|uid>[:<group|gid>])")
@framework.texts("--env-file", says="Read in a file of environment variables")
@framework.flag("-i", "--interactive", says="Keep STDIN open")
@framework.flag("-t", "--tty", says="Allocate a pseudo-TTY")
@framework.flag("-d", "--detach", says="Detached mode: run command in the background")
@detach_keys
@framework.as_one(_Flags)
def exec_(invocation: Invocation, operands: tuple[str, ...], flags: _Flags) -> None:
    """Exits with the status of the command, which keeps running if `pyunion exec` is killed."""
    from mount_tools.container.pausing import refuse_paused

    name, *command = operands
    store = invocation.store
    container = store.containers.resolve(name)
    if not container.runs_command:
        raise Conflict(f"Container {container.id} is not running")
    refuse_paused(container, "exec")
    invocation.protect(host_config(RunConfig(container.config)))
    changed = ContainerFlags(
        entrypoint="",
        env=flags.env,
        env_file=flags.env_file,
        user=flags.user,
        workdir=flags.workdir,
        tty=flags.tty,
    )
    config = config_of(container.config, container.image_name, changed, command)
    config["HostConfig"] = container.config.get("HostConfig", {})  # it has the container's rights
    passed_on = PassedOn(flags.interactive, parse_keys(flags.keys))
    keeper = invocation.take_keeper()
    if not flags.detach:
        take_stdin(flags.interactive, flags.tty)

    def work() -> int:
        if flags.detach:
            exec_detached(store, container, config, keeper)
            return 0
        return exec_in_container(store, container, config, passed_on, keeper)

    exit_with(work)
