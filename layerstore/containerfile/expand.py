"""Variables in instructions: in which parts of each instruction they are replaced.

This module alone decides that.  RUN (except for its mounts), CMD, ENTRYPOINT, SHELL,
HEALTHCHECK, ONBUILD and MAINTAINER are not changed, because a shell or a later build expands
their variables.  `--from` and `--exclude` have no variables.

Source: the Dockerfile reference, "Environment replacement"; buildkit
`instructions/commands.go`.
"""

from __future__ import annotations

from collections.abc import Mapping

from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.grammar import Words
from layerstore.containerfile.instructions import (
    Add,
    Arg,
    Copy,
    Default,
    Env,
    Expose,
    From,
    Heredoc,
    Instruction,
    Label,
    Pair,
    Run,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from layerstore.containerfile.mounts import typed_mount
from layerstore.errors import shown
from unionfs.light_typing import TypeVar

_Transfer = TypeVar("_Transfer", Copy, Add)


class Expander:
    """Replaces the variables `values` in instructions of a file with the escape `escape`.

    A relative target of a mount is beneath `workdir`.
    """

    def __init__(self, escape: str, values: Mapping[str, str], workdir: str = "/") -> None:
        self._words = Words(escape, values)
        self._document = Words("\\", values, quotes=True)
        self._workdir = workdir

    def expand(self, one: Instruction) -> Instruction:
        """Return `one` with its variables replaced; raises ContainerfileError."""
        if isinstance(one, Env | Label):
            pairs = (Pair(self._word(one, p.name), self._word(one, p.value)) for p in one.pairs)
            return one._replace(pairs=tuple(pairs))
        if isinstance(one, Copy):
            return self._transfer(one)
        if isinstance(one, Add):
            return self._transfer(one)._replace(checksum=self._word(one, one.checksum))
        if isinstance(one, Run):
            mounts = (
                typed_mount(flag, one.at, self._workdir, lambda word: self._word(one, word))
                for flag in one.flags
            )
            return one._replace(mounts=tuple(mounts))
        if isinstance(one, Expose):
            ports = [word for port in one.ports for word in self._words.words(port, one.at)]
            return one._replace(ports=tuple(ports))
        return self._single(one)

    def from_line(self, one: From) -> From:
        """Return a FROM with its image and platform expanded; neither may become blank."""
        image = self._word(one, one.image)
        if not image:
            raise ContainerfileError(one.at, f"base name ({shown(one.image)}) should not be blank")
        return one._replace(image=image, platform=self._word(one, one.platform))

    def _single(self, one: Instruction) -> Instruction:
        if isinstance(one, Workdir):
            return one._replace(path=self._word(one, one.path))
        if isinstance(one, User):
            return one._replace(user=self._word(one, one.user))
        if isinstance(one, Stopsignal):
            return one._replace(signal=self._word(one, one.signal))
        if isinstance(one, Volume):
            return one._replace(paths=tuple(self._word(one, path) for path in one.paths))
        if isinstance(one, Arg):
            return one._replace(defaults=tuple(self._default(one, d) for d in one.defaults))
        return one

    def _default(self, one: Arg, default: Default) -> Default:
        value = None if default.value is None else self._word(one, default.value)
        return Default(self._word(one, default.name), value)

    def _transfer(self, one: _Transfer) -> _Transfer:
        return one._replace(
            sources=tuple(self._word(one, source) for source in one.sources),
            destination=self._word(one, one.destination),
            documents=tuple(self._heredoc(one, document) for document in one.documents),
            owner=self._word(one, one.owner),
            mode=self._word(one, one.mode),
        )

    def _heredoc(self, one: Instruction, document: Heredoc) -> Heredoc:
        if not document.expand:
            return document
        return document._replace(content=self._document.word(document.content, one.at))

    def _word(self, one: Instruction, text: str) -> str:
        return self._words.word(text, one.at) if text else text
