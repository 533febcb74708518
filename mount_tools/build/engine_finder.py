"""Find the images of an ordinary user's podman or buildah while the user builds.

The build of an ordinary user is in a user namespace from its beginning, and inside of that it
cannot be seen who may change an engine's store.  So a process stays outside, and looks there.

    finder = EngineFinder()     outside
    finder.find(text)           inside, for a FROM that names such an image
    finder.close()

Decided here and only here: the messages between the two processes, which are lines of JSON.
Few builds have such a FROM, so the modules that find an image are imported only for one.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import json
import os
import signal

from layerstore.errors import StoreError
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.archive.engine_store import EngineImage, EngineStore


class EngineFinder:
    """The process that looks.  It ends with this one, if nobody closes it."""

    def __init__(self) -> None:
        """Fork it; raises OSError."""
        request, self._request = os.pipe()
        self._answer, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the build closes the pipe then
                os.close(self._request)
                os.close(self._answer)
                _serve(request, answer)
            finally:
                os._exit(0)
        os.close(request)
        os.close(answer)

    def find(self, text: str) -> tuple[EngineStore, EngineImage]:
        """Return what `find_in_engine` returns there; raises StoreError."""
        from pathlib import Path

        from layerstore.archive.engine_store import EngineImage, EngineStore
        from layerstore.oci.reference import parse_reference

        line = b""
        try:
            os.write(self._request, json.dumps(text).encode() + b"\n")
            with open(os.dup(self._answer), "rb") as lines:
                line = lines.readline()
        except BrokenPipeError:
            pass  # it was killed
        said = json.loads(line or '{"error": "the process that looks for images was killed"}')
        if "error" in said:
            raise StoreError(said["error"])
        names = tuple(map(parse_reference, said["names"]))
        trees = tuple(map(Path, said["trees"]))
        image = EngineImage(said["id"], names, tuple(said["layers"]), trees)
        return EngineStore(Path(said["root"])), image

    def close(self) -> None:
        """End the process."""
        os.close(self._request)
        os.close(self._answer)
        os.waitpid(self.pid, 0)


def _serve(request: int, answer: int) -> None:
    with open(request, "rb") as lines, open(answer, "wb") as answers:
        for line in lines:
            answers.write(json.dumps(_found(json.loads(line))).encode() + b"\n")
            answers.flush()


def _found(text: str) -> dict[str, object]:
    from layerstore.archive.engine_store import find_in_engine

    try:
        store, image = find_in_engine(text)
    except StoreError as error:
        return {"error": str(error)}
    return {
        "root": os.fspath(store.root),
        "id": image.id,
        "names": list(map(str, image.names)),
        "layers": image.layers,
        "trees": list(map(os.fspath, image.trees)),
    }
