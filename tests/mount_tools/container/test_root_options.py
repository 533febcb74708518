"""The union of a container's processes; test_run has how it is served."""

from __future__ import annotations

import os
import subprocess
import sys

from layerstore import Store
from mount_tools.container.root_options import container_options, root_order


def test_they_are_those_of_the_container_and_its_image(store: Store) -> None:
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    options = root_order(store, container, transport="pyfuse3", flags=4).options()
    directory = container.directory
    assert options.union.lowers == tuple(map(os.fsencode, store.containers.lowers(container)))
    assert options.union.upper == os.fsencode(directory / "upper")
    assert options.union.work == os.fsencode(directory / "work")
    assert (options.fsname, options.transport, options.flags) == ("pyunion:box", "pyfuse3", 4)
    assert options.control == os.fspath(directory / "control.sock")
    assert options.log == os.fspath(directory / "mount.log")
    usual = options._replace(transport="auto")
    assert container_options(store, container, flags=4) == usual


def test_they_need_no_store_and_no_union() -> None:
    code = (
        "import sys, mount_tools.container.root_options\n"
        "heavy = ('layerstore.store', 'layerstore.containers', 'unionfs.core.union')\n"
        "assert not {*heavy} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
