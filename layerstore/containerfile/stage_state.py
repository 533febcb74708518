"""A stage while its instructions are carried out: its configuration, variables and history.

    state = StageState(base_config, arguments.stage(), containerfile.escape)
    for instruction in instructions:
        instruction = state.expand(instruction)
        created_by = state.apply(instruction)
        if created_by is None:
            ...  # RUN, COPY or ADD: `run_program`, `run_history`, `copy_history`

This module alone decides which variables an instruction sees, what a RUN executes, and the
`created_by` of a history entry.  All three are as in docker's classic builder.  None of
them contains the value of a secret.

Source: moby `builder/dockerfile/evaluator.go`, `internals.go`; for heredocs of RUN, buildkit
`dockerfile2llb/convert.go`.
"""

from __future__ import annotations

from collections.abc import Callable

from layerstore.containerfile.arguments import StageArguments
from layerstore.containerfile.config_changes import DEFAULT_PATH, ConfigChanges, clean_path
from layerstore.containerfile.expand import Expander
from layerstore.containerfile.grammar import heredoc_name
from layerstore.containerfile.instructions import (
    Add,
    Arg,
    Copy,
    Heredoc,
    Instruction,
    Run,
)
from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig
from unionfs.light_typing import NamedTuple

SCRIPT_DIRECTORY = "/dev/pipes"


class Program(NamedTuple):
    """The program of a RUN: its words, and its environment as a list of `name=value`.

    `arguments` are those of the build that are in its history entry and its key.  While it
    runs, `script` has to be an executable file at `SCRIPT_DIRECTORY/<name>`.
    """

    argv: list[str]
    environment: list[str]
    arguments: list[str]
    script: Heredoc | None = None


class StageState:
    """The state of one stage; `config` is the base image's configuration, {} for scratch."""

    def __init__(self, config: Object, arguments: StageArguments, escape: str) -> None:
        before = RunConfig(config)
        self.triggers = before.on_build
        fields = {name: value for name, value in config.items() if name != "OnBuild"}
        if "PATH" not in before.environment:
            fields["Env"] = [*before.env, DEFAULT_PATH]
        self._changes = ConfigChanges(fields)
        self._arguments = arguments
        self._escape = escape

    @property
    def config(self) -> Object:
        """The run configuration so far; later instructions do not change this object."""
        return dict(self._changes.config)

    @property
    def author(self) -> str:
        """The author that MAINTAINER sets; "" without one."""
        return self._changes.author

    @property
    def run_config(self) -> RunConfig:
        """The run configuration so far, with typed fields."""
        return RunConfig(self._changes.config)

    @property
    def workdir(self) -> str:
        """The directory that relative paths are beneath."""
        return clean_path(self.run_config.working_dir or "/")

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the next instruction: ARGs and ENVs; an ENV wins over an ARG."""
        return {**self._arguments.values, **self.run_config.environment}

    def expand(self, one: Instruction) -> Instruction:
        """Return `one` with its variables replaced; raises ContainerfileError."""
        return Expander(self._escape, self.variables, self.workdir).expand(one)

    def apply(self, one: Instruction) -> str | None:
        """Apply the expanded `one`, and return the `created_by` of its history entry.

        Returns None for RUN, COPY, ADD and FROM, which change no configuration.
        """
        comment = self._changes.apply(one)
        if comment is None:
            return None
        if isinstance(one, Arg):
            for default in one.defaults:
                self._arguments.declare(default)
        gap = " " if comment.startswith("WORKDIR ") else "  "
        return f"{self._nop}{gap}{comment}"

    def label(self, name: str, value: str) -> str:
        """Add one label of `--label`, as an instruction at the end of the target stage."""
        labels = RunConfig(self._changes.config).members("Labels")
        self._changes.config["Labels"] = {**labels, name: value}
        return f"{self._nop}  LABEL {name}={value}"

    def program(self, run: Run) -> Program:
        """Return the program that the expanded `run` executes."""
        argv, script = self._argv(run)
        environment = dict(self._arguments.values) | self.run_config.environment
        listed = [f"{name}={value}" for name, value in environment.items()]
        recorded = self._arguments.recorded(self.run_config.environment)
        return Program(argv, listed, recorded, script)

    def run_history(self, run: Run) -> str:
        """Return the `created_by` of a RUN: its words after the build arguments it sees."""
        environment = self.run_config.environment
        recorded = self._arguments.recorded(environment)
        argv, script = self._argv(run)
        if script is not None:
            argv = [*argv, f"<<{script.name}\n{script.content}{script.name}"]
        if any(name not in environment for name in self._arguments.values):
            # docker writes the count even if only proxies, which it does not list, are set.
            argv = [f"|{len(recorded)}", *recorded, *argv]
        return " ".join(argv)

    def copy_history(self, one: Copy | Add) -> Callable[[str], str]:
        """Return what makes the `created_by` of a COPY or ADD of the digest of its sources.

        The digest of files of another stage is known late.  The shell in the text is that of
        now, not of a SHELL that comes after `one`.
        """
        nop = self._nop
        name = "COPY" if isinstance(one, Copy) else "ADD"
        owner = f"--chown={one.owner}" if one.owner else ""
        return lambda sources: f"{nop} {name} {owner}{sources} in {one.destination} "

    @property
    def _nop(self) -> str:
        return " ".join([*self._changes.shell, "#(nop)"])

    def _argv(self, run: Run) -> tuple[list[str], Heredoc | None]:
        """Return the words of a RUN, and the heredoc that is executed as a script, if any.

        If a heredoc is the whole command line, the shell runs its content, or with `#!` it
        is executed as a program.  Any other heredoc stays in the command line for the shell.
        """
        command = run.command
        if not run.heredocs:
            return self._changes.argv(command), None
        line = command.words[0]
        first = run.heredocs[0]
        if len(run.heredocs) == 1 and heredoc_name(line) == first.name:
            if first.content.startswith("#!"):
                return [f"{SCRIPT_DIRECTORY}/{first.name}"], first
            return [*self._changes.shell, first.content], None
        whole = line + "".join(f"\n{one.raw}{one.name}" for one in run.heredocs)
        return [*self._changes.shell, whole], None
