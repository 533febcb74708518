"""The options of the mount that a container's processes see; test_run has how it is served."""

from __future__ import annotations

import os

from layerstore import Store
from mount_tools.container.root_options import container_options


def test_they_are_those_of_the_container_and_its_image(store: Store) -> None:
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    options = container_options(store, container, transport="pyfuse3", flags=4)
    directory = store.containers.directory(container)
    assert options.union.lowers == tuple(map(os.fsencode, store.containers.lowers(container)))
    assert options.union.upper == os.fsencode(directory / "upper")
    assert options.union.work == os.fsencode(directory / "work")
    assert (options.fsname, options.transport, options.flags) == ("pyunion:box", "pyfuse3", 4)
    assert options.control == os.fspath(directory / "control.sock")
    assert options.log == os.fspath(directory / "mount.log")
