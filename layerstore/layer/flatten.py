"""The flat tar of a merged tree, which `export` writes and as which a directory is imported.

Decided here and only here: that a flat tar is packed like a layer with no layers
beneath, so that whiteouts, redirects and metacopies of all layers are resolved; and
how the output of a packer becomes a stream that can be unpacked.

Threading: `PackStream` packs in its own thread.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from layerstore.errors import StoreError
from layerstore.layer.pack import Packed, Packing, pack
from layerstore.tar.pipeline import Tick, Writable
from unionfs.syscalls.privilege import is_machine_root


def write_flat_tar(
    layers: Sequence[Path],
    out: Writable | None,
    *,
    tick: Tick | None = None,
    live: bool = False,
    sparse: bool = False,
    hashing: bool = False,
) -> Packed:
    """Write the merged tree of `layers`, topmost first, as a tar to `out`.

    `live` says that a mount may be changing the topmost meanwhile.  `sparse` stores files
    with large holes without these, in GNU's PAX format 1.0.
    """
    return pack(
        layers[0],
        layers[1:],
        out,
        privileged=is_machine_root(),
        tick=tick,
        how=Packing(flat=True, live=live, sparse=sparse, hashing=hashing),
    )


class PackStream(io.RawIOBase):
    """A stream of the bytes that `write` writes in another thread.  A context manager.

    Nothing is buffered: the bytes are copied directly to the reader.
    """

    def __init__(self, write: Callable[[Writable], object]) -> None:
        self._write_to = write
        self._turn = threading.Condition()
        self._view = memoryview(b"")
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._pack, name="packer", daemon=True)
        self._thread.start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a part of `buffer`; raises the error of the packing."""
        with self._turn:
            self._turn.wait_for(lambda: self._view or self._ended)
            if self._error is not None:
                raise self._error
            size = min(len(buffer), len(self._view))
            buffer[:size] = self._view[:size]
            self._view = self._view[size:]
            if not self._view:
                self._turn.notify_all()
            return size

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """Pass `data` to the reader and wait until it is read; for the packing thread."""
        with self._turn:
            self._view = data
            self._turn.notify_all()
            self._turn.wait_for(lambda: not self._view or self._ended)
            if self._ended:
                raise StoreError("the reader of the packed tree has closed it")
            return len(data)

    def _pack(self) -> None:
        error: BaseException | None = None
        try:
            self._write_to(self)
        except BaseException as caught:
            error = caught
        with self._turn:
            if not self._ended:
                self._error = error
            self._ended = True
            self._turn.notify_all()

    def close(self) -> None:
        """End the packing, even if it is not complete."""
        with self._turn:
            self._ended = True
            self._view = memoryview(b"")
            self._turn.notify_all()
        self._thread.join()
        super().close()
