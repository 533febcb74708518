"""What a start imports: nothing that the process does not use, and nothing that is slow to make.

A command spends most of its time on imports.  One more module costs 0.1 ms or more, in each of
the two processes of `pyunion run` that needs it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from mount_tools.container.keeper_process import RUN as RUN_KEEPER
from mount_tools.pyunion import OF_BOTH
from tests.helpers.mounts import DEADLINE

OURS = ("layerstore", "mount_tools", "unionfs")

# What `pyunion run` imports before its first order.  Add a module here only after measuring
# that the command needs it: most belong in a function, or in the keeper.
RUN = {
    "": "layerstore mount_tools unionfs",
    "layerstore": "blobs containers db errors given_file images layer_uses layers light_json "
    "light_pathlib oci store user volumes",
    "layerstore.containers": "container containers names",
    "layerstore.db": "container_table database durability file_locks foundation image_table "
    "layer_table leases processes reserve schema staging volume_table",
    "layerstore.images": "images rows",
    "layerstore.oci": "digest documents durations json_values platform reference run_config "
    "sha256 timestamps",
    "mount_tools": "cli container daemon pyunion interrupts",
    "mount_tools.cli": "commands complete errors flags framework main output invocation",
    "mount_tools.cli.commands": "container_flags image_to_run new_container run_cmd run_status "
    "shared_flags",
    "mount_tools.cli.output": "standard_output terminal",
    "mount_tools.container": "attach_messages detach_keys devices handshake host_config "
    "keeper_process limits mount_words process_title rights signals start "
    "sub_ids terminal user_namespace viewer",
    "mount_tools.daemon": "after_fork detach report",
    "unionfs": "errors lazy_names light_logging light_signal light_socket light_typing syscalls",
    "unionfs.syscalls": "libc mount namespaces openat2 removal signalfd",
}
KEPT = ("mount_tools.pyunion", *OF_BOTH, "mount_tools.container.keeper_process")
CLI = ("mount_tools.pyunion", "mount_tools.cli.main")

MOUNT = ("serve", "log", "transport")
STARTS = {
    "client": ("mount_tools.helper.entry",),
    "mount": (
        *("mount_tools.helper.main", *(f"mount_tools.daemon.{name}" for name in MOUNT)),
        *("unionfs.core.union", "unionfs.transports.dev_fuse"),
    ),
    "run": (*KEPT, "mount_tools.cli.main", "mount_tools.cli.commands.run_cmd"),
    "keeper": (*KEPT, RUN_KEEPER.module, *RUN_KEEPER.others),
    "help": (*CLI, "mount_tools.cli.help_pages", "mount_tools.cli.summaries"),
    "images": (*CLI, "mount_tools.cli.commands.images_cmd"),
    "rm": (*CLI, "mount_tools.cli.commands.rm_cmd"),
    "stop": (*CLI, "mount_tools.cli.commands.kill_cmd"),
    "template": (*CLI, "mount_tools.cli.gotemplate.template"),
    "build": (*CLI, "mount_tools.cli.commands.build_cmd"),
    "packer": ("layerstore.layer.pack",),
}
SLOW = {
    *("asyncio", "click", "email", "http", "importlib.metadata", "logging", "multiprocessing"),
    *("pickle", "pyfuse3", "random", "rich", "secrets", "shutil", "ssl", "subprocess"),
    *("tempfile", "traceback", "trio"),
}
MORE = {
    "client": {"_ctypes", "collections", "contextlib", "enum", "functools", "re", "types"},
    "mount": {
        *("enum", "inspect", "json", "layerstore", "pathlib", "queue", "re", "signal", "socket"),
        "sqlite3",
    },
    "run": {
        *("dataclasses", "datetime", "hashlib", "inspect", "json", "selectors", "socket", "typing"),
        *("unionfs.core.union", "urllib.parse"),
    },
    "keeper": {"dataclasses", "hashlib", "inspect", "json", "selectors", "socket", "typing"},
    "help": {"inspect", "layerstore.store", "pathlib", "sqlite3"},
    "images": {
        *("ctypes", "dataclasses", "datetime", "hashlib", "inspect", "json", "socket"),
        *("typing", "unionfs.core.union", "urllib.parse"),
    },
    "rm": {"json", "mount_tools.container.mount", "mount_tools.mount.options", "socket"},
    "stop": {"json", "mount_tools.container.mount", "mount_tools.mount.options", "socket"},
    "template": {"dataclasses", "inspect", "json", "sqlite3"},
    "build": {"dataclasses", "datetime", "e2b_dockerfile_utils", "hashlib", "inspect", "typing"},
    "packer": {"bz2", "dataclasses", "gzip", "inspect", "isal", "lzma", "pyfuse3"},
}

PROGRAM = """
import sys
there = {*sys.modules}  # of the interpreter, and of what measures coverage
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
print(*({*sys.modules} - there))
"""


def imported(start: str) -> set[str]:
    """Return the modules of a process."""
    command = [sys.executable, "-c", PROGRAM, *STARTS[start]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE)
    return set(done.stdout.split())


@pytest.mark.parametrize("start", STARTS)
def test_nothing_slow_is_imported(start: str) -> None:
    assert not imported(start) & (SLOW | MORE[start])


def test_run_imports_no_module_of_ours_that_is_not_listed() -> None:
    ours = {name for name in imported("run") if name.partition(".")[0] in OURS}
    listed = {
        f"{package}.{name}".lstrip(".") for package, names in RUN.items() for name in names.split()
    }
    assert (sorted(ours - listed), sorted(listed - ours)) == ([], [])
