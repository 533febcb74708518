"""Archives made by hand, block by block, and what they become when unpacked.

The headers here share no code with the product, so that neither hides the
other's mistakes, and say what no sane tool writes.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from layerstore.layer.index import IndexEntry, compare, read_index
from layerstore.layer.tar_split import assemble
from layerstore.layer.unpack import Unpacked, unpack
from layerstore.limits import DEFAULT, Limits
from tests.helpers.as_user import NOBODY, become_nobody
from tests.helpers.mounts import require_root
from tests.helpers.trees import raw

END = bytes(1024)
PRIVILEGED = os.geteuid() == 0


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def header(
    name: bytes,
    kind: bytes = b"0",
    size: int | bytes = 0,
    *,
    mode: int = 0o644,
    linkname: bytes = b"",
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    device: tuple[int, int] = (0, 0),
    magic: bytes = b"ustar\x0000",
    tail: bytes = b"",
    prefix: bytes = b"",
) -> bytes:
    """Return one header block; numbers given as bytes are taken as they are."""

    def number(value: int | bytes, width: int) -> bytes:
        return octal(value, width) if isinstance(value, int) else value.ljust(width, b"\0")

    block = bytearray(512)
    block[0:100] = name[:100].ljust(100, b"\0")
    block[100:108] = octal(mode, 8)
    block[108:116] = number(uid, 8)
    block[116:124] = number(gid, 8)
    block[124:136] = number(size, 12)
    block[136:148] = number(mtime, 12)
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157:257] = linkname[:100].ljust(100, b"\0")
    block[257:265] = magic
    if magic == b"ustar\x0000":
        block[329:337], block[337:345] = octal(device[0], 8), octal(device[1], 8)
        block[345:500] = prefix.ljust(155, b"\0")
    block[345 : 345 + len(tail)] = tail
    return with_sum(bytes(block))


def with_sum(block: bytes) -> bytes:
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: bytes, content: bytes = b"", **fields: object) -> bytes:
    return header(name, b"0", len(content), **fields) + padded(content)  # type: ignore[arg-type]


def folder(name: bytes, **fields: object) -> bytes:
    return header(name, b"5", mode=0o755, **fields)  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"2", linkname=target)


def hardlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"1", linkname=target)


def record(key: bytes, value: bytes) -> bytes:
    body = b" %b=%b\n" % (key, value)
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(kind: bytes = b"x", **records: bytes) -> bytes:
    return pax_of({key.encode(): value for key, value in records.items()}, kind)


def pax_of(records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    return extended(b"".join(record(*pair) for pair in records.items()), kind)


def extended(body: bytes, kind: bytes = b"x") -> bytes:
    return header(b"PaxHeaders/x", kind, len(body)) + padded(body)


def whole(*parts: bytes) -> bytes:
    return b"".join(parts) + END


def by_tarfile(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def as_nobody(test: Callable[[Site], None]) -> Callable[[], None]:
    """Run `test` as an ordinary user, on a site of its own, in a child process."""

    def run() -> None:
        require_root()
        with tempfile.TemporaryDirectory() as name:
            os.chown(name, NOBODY, NOBODY)
            read, write = os.pipe()
            with warnings.catch_warnings():
                # No thread of the store's is alive here, and the child makes its own.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                try:
                    become_nobody()
                    test(Site(Path(name)))
                except BaseException:
                    os.write(write, traceback.format_exc().encode()[-60_000:])
                finally:
                    os._exit(0)
            os.close(write)
            with open(read) as pipe:
                said = pipe.read()
            os.waitpid(child, 0)
            assert not said, said

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Site:
    """A place to unpack in, and what lies around it, which must not change."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.outside = base / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_text("untouched")
        (self.outside / "folder").mkdir()
        (self.outside / "folder" / "inner").write_text("untouched")
        self.staging = base / "staging"
        self._count = 0
        self._was = raw(self.outside)

    def unpack(
        self,
        archive: bytes,
        *,
        lowers: Sequence[Path] = (),
        limits: Limits = DEFAULT,
        privileged: bool = PRIVILEGED,
        whole: bool = False,
    ) -> Unpacked:
        """Unpack `archive`; nothing outside may change, whatever comes of it."""
        self._count += 1
        self.staging = self.base / f"staging{self._count}"
        self.staging.mkdir()
        try:
            return unpack(
                io.BytesIO(archive),
                self.staging,
                privileged=privileged,
                lowers=lowers,
                limits=limits,
                whole=whole,
            )
        finally:
            assert raw(self.outside) == self._was, "something outside was changed"
            made = {f"staging{n + 1}" for n in range(self._count)}
            assert {p.name for p in self.base.iterdir()} == {"outside", *made}

    @property
    def diff(self) -> Path:
        return self.staging / "diff"

    def index(self) -> dict[bytes, IndexEntry]:
        return {entry.path: entry for entry in read_index(self.staging / "index")}

    def check(self, archive: bytes) -> None:
        """Check what holds of every layer that was unpacked: index and tar-split are right."""
        assert list(compare(self.diff, self.index())) == []
        out = io.BytesIO()
        assemble(self.staging, out)
        assert out.getvalue() == archive

    def good(
        self, *parts: bytes, lowers: Sequence[Path] = (), privileged: bool = PRIVILEGED
    ) -> Unpacked:
        """Unpack an archive of `parts` that nothing is wrong with."""
        archive = whole(*parts)
        done = self.unpack(archive, lowers=lowers, privileged=privileged)
        self.check(archive)
        return done

    def marks(self, path: str = "") -> dict[str, bytes]:
        """Return the attributes of `path` on disk."""
        where = self.diff / path
        names = os.listxattr(where, follow_symlinks=False)
        return {name: os.getxattr(where, name, follow_symlinks=False) for name in names}
