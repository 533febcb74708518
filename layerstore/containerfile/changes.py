"""`--change` of commit and import: instructions applied to a run configuration.

This module alone decides which instructions are accepted: those of docker's `commit -c` and
`import -c`, and also STOPSIGNAL, which docker's builder has.

Source: moby `builder/dockerfile/builder.go`, BuildFromConfig.
"""

from __future__ import annotations

from collections.abc import Sequence

from layerstore.containerfile.config_changes import ConfigChanges
from layerstore.containerfile.errors import ContainerfileError, UnknownInstruction
from layerstore.containerfile.expand import Expander
from layerstore.containerfile.grammar import parse_ast
from layerstore.containerfile.parse import instruction_of
from layerstore.errors import StoreError, shown
from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig

_ACCEPTED = frozenset(
    [
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)


def apply_changes(config: Object, changes: Sequence[str]) -> Object:
    """Return the run configuration `config` with the instructions `changes` applied to it.

    Raises StoreError, in docker's words, for an instruction that is not accepted.
    """
    applied = ConfigChanges(config)
    for change in changes:
        try:
            _apply(applied, change)
        except UnknownInstruction as error:
            raise _not_accepted(error.name) from None
        except ContainerfileError as error:
            raise StoreError(error.reason) from None
    return applied.config


def _apply(applied: ConfigChanges, change: str) -> None:
    ast = parse_ast(change, "--change")
    if not ast.nodes:
        raise StoreError("file with no instructions")
    for node in ast.nodes:
        if node.name not in _ACCEPTED:
            raise _not_accepted(node.name)
        variables = RunConfig(applied.config).environment
        applied.apply(Expander(ast.escape, variables).expand(instruction_of(node)))


def _not_accepted(name: str) -> StoreError:
    return StoreError(f"{shown(name.lower())} is not a valid change command")
