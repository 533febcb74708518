"""A build without RUN onto plain directories: what the modules of the room do together.

Each stage is a directory; there are no layers, no store and no mount.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from layerstore.build.adding import add_archives
from layerstore.build.copying import Copier, place_of
from layerstore.build.destination import Destination
from layerstore.build.ignore import read_ignore
from layerstore.build.owner import find_owner, read_mode
from layerstore.build.plan import FromStage, Stage, make_plan
from layerstore.build.source_digest import Digester
from layerstore.build.sources import digest_sources, find_sources
from layerstore.build.tree import Tree
from layerstore.containerfile.instructions import Add, Copy, Workdir
from layerstore.containerfile.parse import parse
from layerstore.containerfile.stage_state import StageState
from layerstore.layer.metadata import Metadata
from layerstore.oci.platform import Platform
from unionfs.syscalls.privilege import is_machine_root

HERE = Platform("linux", "amd64")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Built(NamedTuple):
    """The root of the last stage, its history and its state."""

    root: Path
    history: list[str]
    state: StageState


def build(text: str, context: Path, work: Path, *, target: str = "", **given: str) -> Built:
    """Build `text` with `context` in the directory `work`."""
    plan = make_plan(parse(text), target=target, given=given, platform=HERE, here=HERE)
    built: dict[int, Built] = {}
    for stage in plan.needed:
        base = built[stage.base.index] if isinstance(stage.base, FromStage) else None
        root = work / f"stage-{stage.index}"
        root.mkdir()
        if base is not None:
            os.system(f"cp -a {base.root}/. {root}")
        state = StageState(base.state.config if base else {}, plan.arguments.stage(), plan.escape)
        history = list(base.history) if base else []
        done = Built(root, history, state)
        _run(stage, done, context, built)
        built[stage.index] = done
    return built[plan.target.index]


def _run(stage: Stage, done: Built, context: Path, built: dict[int, Built]) -> None:
    for one in stage.instructions:
        one = done.state.expand(one)
        created_by = done.state.apply(one)
        if isinstance(one, Workdir):
            fd = os.open(done.root, _DIRECTORY)
            try:
                folder, _ = _destination(fd).folder(done.state.workdir)
                os.close(folder)
            finally:
                os.close(fd)
        if isinstance(one, Copy | Add):
            source = context
            if isinstance(one, Copy) and one.stage:
                found = stage.sources[one.stage]
                assert isinstance(found, FromStage)
                source = built[found.index].root
            created_by = copy(one, source, done.root, done.state)
        assert created_by is not None
        done.history.append(created_by)


def _destination(fd: int) -> Destination:
    return Destination(fd, Metadata(privileged=is_machine_root()))


def copy(one: Copy | Add, source: Path, root: Path, state: StageState) -> str:
    """Carry out `one`; return its history entry."""
    from_stage = isinstance(one, Copy) and bool(one.stage)
    source_fd = os.open(source, _DIRECTORY)
    root_fd = os.open(root, _DIRECTORY)
    try:
        ignore = None if from_stage else read_ignore(source_fd)
        tree = Tree(source_fd, ignore, owners=from_stage)
        sources = find_sources(one, tree)
        docker, _, seen = digest_sources(sources, Digester(tree))
        owner = find_owner(root_fd, one.owner, one.at) if one.owner else None
        mode = read_mode(one.mode, one.at) if one.mode else None
        copier = Copier(_destination(root_fd), owner, mode)
        if isinstance(one, Add):
            sources, seen = add_archives(one, sources, seen, copier, place_of(one, state.workdir))
        copier.copy(one, sources, seen, state.workdir)
        return state.copy_history(one)(docker)
    finally:
        os.close(source_fd)
        os.close(root_fd)


def listing(root: Path) -> dict[str, str]:
    """Return what is beneath `root`: path to type, mode, owner and content."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            text = f"{stat.filemode(st.st_mode)} {st.st_uid}:{st.st_gid}"
            if stat.S_ISREG(st.st_mode):
                text += " " + repr(Path(path).read_bytes()[:40])
            elif stat.S_ISLNK(st.st_mode):
                text += " -> " + os.readlink(path)
            found[os.path.relpath(path, root)] = text
    return dict(sorted(found.items()))


def written(root: Path, files: dict[str, str | None]) -> Path:
    """Make `files` beneath `root`: content by path, None for a directory; return `root`."""
    root.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        whole = root / path
        if content is None:
            whole.mkdir(parents=True, exist_ok=True)
        else:
            whole.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith("->"):
                whole.symlink_to(content[2:])
            else:
                whole.write_text(content)
    return root


__all__ = ["Built", "build", "copy", "listing", "place_of", "written"]
