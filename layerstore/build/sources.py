"""The sources of COPY and ADD: the files that their words select in the source tree.

This module alone decides that.  A word is a path, whose links are followed, or a pattern,
whose links are not followed.  With `--parents` the parent directories are kept, those after
a `/./` if there is one.  A file of ADD that is an archive is unpacked.

Source: the Dockerfile reference, "COPY", "ADD", "COPY --parents"; moby
`builder/dockerfile/copy.go`; buildkit `dockerfile2llb/convert_copy.go`.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence

from layerstore.build.ignore import Ignore
from layerstore.build.match import has_wildcards
from layerstore.build.source_digest import Digester, SourceDigest, of_content, of_several
from layerstore.build.tree import Tree, TreeEntry, changed
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import Add, Copy, Heredoc
from layerstore.errors import StoreError, shown
from unionfs.light_typing import NamedTuple

DOWNLOAD_MODE = 0o600
_URLS = ("http://", "https://", "ftp://", "git://", "git@", "ssh://")


class FileSource(NamedTuple):
    """The file `path` of the tree; `name` is its name in the instruction."""

    path: str
    name: str
    st: os.stat_result


class DirectorySource(NamedTuple):
    """The content of the directory `path` of the tree."""

    path: str


class ParentsSource(NamedTuple):
    """The files and directories `paths` beneath `base`, with the directories above them."""

    base: str
    paths: tuple[str, ...]


class ContentSource(NamedTuple):
    """A file `name` that is in no tree: a heredoc."""

    name: str
    content: bytes


class DownloadSource(NamedTuple):
    """The download of `url`: a file `name`, open as `fd`, which `Downloads` closes."""

    url: str
    name: str
    fd: int
    mtime_ns: int
    digest: SourceDigest


Source = FileSource | DirectorySource | ParentsSource | ContentSource | DownloadSource


class Sources(NamedTuple):
    """The sources of one instruction, in its order; `exclude` hides files in them.

    `remote` are the URLs of an ADD that are not fetched yet: see `download`.
    """

    tree: Tree
    found: tuple[Source, ...]
    exclude: Ignore
    remote: tuple[str, ...] = ()

    def walk(self, path: str) -> Iterator[TreeEntry]:
        """Yield the directory `path` and the files in it that are to be copied."""
        if self.exclude.empty:
            return self.tree.walk(path)
        return self._walk_some(path)

    def _walk_some(self, path: str) -> Iterator[TreeEntry]:
        start = len(path) + 1 if path else 0
        for entry in self.tree.walk(path):
            inside = entry.path[start:]
            if entry.depth and self.exclude.hides(inside):
                if not stat.S_ISDIR(entry.st.st_mode):
                    continue
                if not self.exclude.may_show_beneath(inside):
                    continue
            yield entry


def is_url(word: str) -> bool:
    """Tell whether a source is a URL, which is downloaded."""
    return word.startswith(("http://", "https://"))


def find_sources(one: Copy | Add, tree: Tree) -> Sources:
    """Return the sources of the expanded `one` in `tree`; raises ContainerfileError.

    With several sources, the destination has to end with a slash.
    """
    remote = tuple(word for word in one.sources if word.startswith(_URLS))
    if remote and isinstance(one, Copy):
        raise ContainerfileError(one.at, "source can't be a URL for COPY")
    for word in remote:
        if not is_url(word) or word.partition("#")[0].endswith(".git"):
            raise ContainerfileError(
                one.at, f"{shown(word)} cannot be fetched: clone it, and copy the directory"
            )
    if isinstance(one, Add) and one.checksum and (len(one.sources) != 1 or not remote):
        raise ContainerfileError(one.at, "checksum can't be specified for anything but one URL")
    found: list[Source] = []
    for word in one.sources:
        if word not in remote:
            found += _find(one, word, tree)
    for doc in one.documents:
        if "/" in doc.name or "\0" in doc.name or doc.name in ("", ".", ".."):
            raise ContainerfileError(
                one.at,
                f"a heredoc becomes a file with its name, and {shown(doc.name)} is no name that a "
                "file can have",
            )
        found.append(ContentSource(doc.name, _encoded(doc)))
    if not found and not remote:
        raise ContainerfileError(one.at, "no source files were specified")
    many = len(found) + len(remote) > 1 or any(
        isinstance(source, ParentsSource) and len(source.paths) > 1 for source in found
    )
    if many and not one.destination.endswith("/") and one.destination not in (".", ".."):
        name = "COPY" if isinstance(one, Copy) else "ADD"
        raise ContainerfileError(
            one.at,
            f"When using {name} with more than one source file, the destination must be a "
            "directory and end with a /",
        )
    return Sources(tree, tuple(found), Ignore(one.exclude, "--exclude"), remote)


def digest_sources(sources: Sources, digester: Digester) -> tuple[str, bytes, list[bytes]]:
    """Return docker's digest of `sources`, the cache's, and the signatures of each source."""
    if sources.remote:
        raise StoreError(f"{shown(sources.remote[0])} was not fetched: see `Downloads`")
    digests = [_digest(source, sources, digester) for source in sources.found]
    whole = b"".join(digest.key for digest in digests)
    docker = of_several([digest.docker for digest in digests]) if digests else ""
    return docker, whole, [digest.seen for digest in digests]


def _digest(source: Source, sources: Sources, digester: Digester) -> SourceDigest:
    if isinstance(source, FileSource):
        digest = digester.file(source.path, source.st)
        # Two links to one file are copied under different names.
        return digest._replace(key=digest.key + os.fsencode(source.name) + b"\0")
    if isinstance(source, DirectorySource):
        return digester.directory(sources.walk(source.path))
    if isinstance(source, DownloadSource):
        return source.digest
    if isinstance(source, ContentSource):
        return of_content(source.name, source.content, 0o644)
    return digester.directory(walk_parents(source, sources))


def walk_parents(source: ParentsSource, sources: Sources) -> Iterator[TreeEntry]:
    """Yield each of `source.paths` with the files beneath it, and its parents once before it.

    `depth` counts from `source.base`, which is not yielded itself.
    """
    given: set[str] = set()
    for path in source.paths:
        parts = path.split("/")
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            if above not in given:
                given.add(above)
                yield from _one(posixpath.join(source.base, above), sources.tree, count)
        inside = posixpath.join(source.base, path)
        for entry in _one(inside, sources.tree, len(parts)):
            yield entry
            if stat.S_ISDIR(entry.st.st_mode):
                for below in sources.walk(inside):
                    if below.depth:
                        yield below._replace(depth=below.depth + len(parts))


def _one(path: str, tree: Tree, depth: int) -> Iterator[TreeEntry]:
    """Yield the file `path` alone."""
    parent, _, name = path.rpartition("/")
    fd = tree.open_parent(parent)
    try:
        try:
            st = tree.status(name, fd)
        except FileNotFoundError:
            raise changed(path, "it was removed") from None
        yield TreeEntry(path, name, fd, st, depth)
    finally:
        os.close(fd)


def _find(one: Copy | Add, word: str, tree: Tree) -> Sequence[Source]:
    """Return the sources that one word selects; none if no file matches a pattern."""
    try:
        if isinstance(one, Copy) and one.parents:
            return _with_parents(one, word, tree)
        path = _relative(word)
        if has_wildcards(path):
            return [_found(one, match, tree) for match in tree.glob(path)]
        return [_found(one, path.replace("\\", "") if "\\" in path else path, tree)]
    except ContainerfileError:
        raise
    except StoreError as error:
        raise ContainerfileError(one.at, str(error)) from None


def _found(one: Copy | Add, path: str, tree: Tree) -> Source:
    if posixpath.normpath(path).split("/")[0] == "..":
        raise ContainerfileError(one.at, f"forbidden path outside the build context: {shown(path)}")
    found = tree.find(path)
    if found is None:
        raise _missing(one, path)
    if stat.S_ISDIR(found.st.st_mode):
        return DirectorySource(found.path)
    if stat.S_ISSOCK(found.st.st_mode):
        raise ContainerfileError(one.at, f"{shown(path)} is a socket, which no image can have")
    return FileSource(found.path, posixpath.basename(posixpath.normpath(path)), found.st)


def _missing(one: Copy | Add, path: str) -> ContainerfileError:
    if isinstance(one, Copy) and one.stage:
        return ContainerfileError(
            one.at, f"{shown(path)} is not in {shown(one.stage)}: file does not exist"
        )
    return ContainerfileError(
        one.at,
        f"file not found in build context or excluded by .dockerignore: stat {shown(path)}: "
        "file does not exist",
    )


def _relative(word: str) -> str:
    path = word.lstrip("/")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path


def _with_parents(one: Copy, word: str, tree: Tree) -> list[Source]:
    pivot, cut, pattern = word.partition("/./")
    if not cut:
        pivot, pattern = "", word
    pattern = posixpath.normpath(posixpath.join("/", pattern)).strip("/")
    bases = tree.glob(_relative(pivot)) if has_wildcards(pivot) else [_relative(pivot)]
    sources: list[Source] = []
    for base in bases:
        found = tree.find(base)
        if found is None or not stat.S_ISDIR(found.st.st_mode):
            if has_wildcards(pivot):
                continue
            raise _missing(one, base)
        paths = _beneath(one, found.path, pattern, tree)
        sources.append(ParentsSource(found.path, tuple(paths)))
    # If no file matches the pattern, the destination is still created, as in BuildKit.
    return sources or [ParentsSource("", ())]


def _beneath(one: Copy, base: str, pattern: str, tree: Tree) -> list[str]:
    """Return the paths beneath `base` that match `pattern`, which may have `**`."""
    start = len(base) + 1 if base else 0
    if not pattern:
        return [entry.path[start:] for entry in tree.walk(base) if entry.depth == 1]
    if "**" in pattern:
        included = Ignore([pattern], "--parents")
        matched: list[str] = []
        for entry in tree.walk(base):
            inside = entry.path[start:]
            above = matched and inside.startswith(matched[-1] + "/")
            if entry.depth and not above and included.hides(inside):
                matched.append(inside)
        return matched
    if has_wildcards(pattern):
        return [path[start:] for path in tree.glob(posixpath.join(_escaped(base), pattern))]
    path = posixpath.join(base, pattern)
    found = tree.find(path)
    if found is None:
        raise _missing(one, path)
    return [pattern]


def _escaped(path: str) -> str:
    return "".join(f"\\{char}" if char in "\\*?[" else char for char in path)


def _encoded(document: Heredoc) -> bytes:
    return document.content.encode("utf-8", "surrogateescape")
