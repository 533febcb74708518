"""The global options of one call of `pyunion`, and the store, which is opened on first use.

Only the commands that fill a store, as `import`, `load` and `pull`, create a missing one.
All others treat a missing default store as an empty one.  A missing store that `--root` or
$PYUNION_ROOT names is an error, since the name is probably mistyped.

A command with several operands continues after a failure and exits with 1 at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress

from layerstore.errors import StoreError
from mount_tools.cli.errors import Exit
from mount_tools.cli.output.terminal import for_stream
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from layerstore.store import Store
    from mount_tools.container.host_config import HostConfig
    from mount_tools.container.keeper_process import PreparedKeeper


class Invocation:
    """The global options, and the store at `root`, by default `default_root()`."""

    def __init__(
        self, root: str | None, *, sync: bool = True, keeper: PreparedKeeper | None = None
    ) -> None:
        self._root: Path | None = None
        self._named = root
        self.sync = sync
        self._keeper = keeper
        self._store: Store | None = None
        self._closing = ExitStack()

    @property
    def root(self) -> Path:
        """Where the store is, or would be.  Raises StoreError if there is no default."""
        if self._root is None:
            from pathlib import Path

            from layerstore.store import default_root  # not for a help

            self._root = Path(self._named) if self._named else default_root()
        return self._root

    @property
    def store(self) -> Store:
        """The store, for a command that reads or changes what is in it.

        Raises StoreError or OSError if it cannot be opened, or if `root` was named and does
        not exist.
        """
        if self._store is None and not self.root.exists():
            if self._named:
                raise StoreError(
                    f"there is no store at {self.root}; "
                    "`pyunion pull`, `build`, `import` and `load` create one; "
                    "--root or PYUNION_ROOT names another"
                )
            self._open(self._nowhere())
        return self.store_to_fill

    @property
    def store_to_fill(self) -> Store:
        """The store, created if it is missing.  Raises StoreError or OSError."""
        return self._store or self._open(self.root)

    @property
    def is_program(self) -> bool:
        """Whether this process was started for this call: then a keeper was forked first."""
        return self._keeper is not None

    def take_keeper(self) -> PreparedKeeper | None:
        """Return the keeper that was forked when the program started, if there is one left."""
        keeper, self._keeper = self._keeper, None
        return keeper

    def _open(self, root: Path) -> Store:
        from layerstore.store import Store

        self._store = self._closing.enter_context(Store.open(root, sync=self.sync))
        return self._store

    def _nowhere(self) -> Path:
        """Return a directory for an empty store.  `close` removes it."""
        from layerstore.db.beside import temporary_directory

        return self._closing.enter_context(temporary_directory())

    def protect(self, host: HostConfig) -> None:
        """Run the program again where the container of `host` cannot change the program's file.

        Few containers need that.  The caller has not done anything yet.
        """
        if self.is_program and host.may_trace:
            from mount_tools.container.read_only_program import run_read_only

            run_read_only(self.close, libraries=host.may_map)

    def protect_all(self, containers: Iterable[str]) -> None:
        """Do the same for the containers of these names, before they are started."""
        from layerstore.oci.run_config import RunConfig
        from mount_tools.container.host_config import host_config

        for name in containers:
            with suppress(StoreError):  # the caller meets it again
                self.protect(host_config(RunConfig(self.store.containers.resolve(name).config)))

    def close(self) -> None:
        """Close the store, if it was opened, and end a keeper that was not needed."""
        self._store = None
        keeper = self.take_keeper()
        if keeper is not None:
            keeper.cancel()
        self._closing.close()

    def each(
        self,
        names: Iterable[str],
        action: Callable[[str], object],
        *,
        harmless: tuple[type[StoreError], ...] = (),
    ) -> None:
        """Call `action` with each name; print the errors, and exit with 1 if there was one.

        An error of a `harmless` kind is printed but does not change the exit status.
        """
        errors: list[str] = []
        failed = False
        for name in names:
            try:
                action(name)
            except StoreError as error:
                errors.append(str(error))
                failed = failed or not isinstance(error, harmless)
        for text in errors:
            complain(text)
        if failed:
            raise Exit(1)


def say(text: str, end: str = "\n") -> None:
    """Print to stdout at once, so that results appear in order.

    On a terminal control characters are escaped.  Raises StoreError if it cannot be written, and
    BrokenPipeError if its reader is gone, as every write to stdout does.
    """
    print(for_stream(text, sys.stdout), end=end, flush=True)


def note(text: str) -> None:
    """Print a line to stderr; on a terminal control characters are escaped.

    Where stderr cannot be written the exit status says it alone.  Raises what `say` does.
    """
    try:
        sys.stdout.flush()
    finally:
        with suppress(OSError):
            print(for_stream(text, sys.stderr), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Print an error of the store to stderr."""
    note(f"Error: {text}")
