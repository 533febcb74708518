"""The files of /etc that a container sees in place of its image's.

Decided here and only here: which files these are, and what they say.
"""

from __future__ import annotations

import os
from contextlib import suppress

from mount_tools.container.host_config import HostConfig


def etc_files(directory: str, hostname: str, host: HostConfig) -> dict[str, str]:
    """Return the files to mount in the container's /etc, each with its source."""
    files = {}
    contents = {
        "hostname": f"{hostname}\n",
        "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{hostname}\n",
    }
    for line in host.extra_hosts:
        name, _, address = line.partition(":")
        contents["hosts"] += f"{address}\t{name}\n"
    with suppress(OSError), open("/etc/resolv.conf", errors="surrogateescape") as file:
        # A copy, so that root of a container does not write to the host's file.
        contents["resolv.conf"] = host.resolv_conf(file.read())
    for name, content in contents.items():
        path = os.path.join(directory, name)
        with open(path, "w", errors="surrogateescape") as file:
            os.fchmod(file.fileno(), 0o644)  # every user of the container reads it
            file.write(content)
        files[f"etc/{name}"] = path
    return files
