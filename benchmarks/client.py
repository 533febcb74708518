"""The loops of system calls that no ready-made tool does; run in a process of its own.

    python benchmarks/client.py LOOP COUNT TOKEN

in the directory to work in.  Prints `ready`, waits for a line on stdin, does the
loop and prints when it began and ended, in seconds of CLOCK_MONOTONIC, and its seconds of
processor time between.  Names begin with TOKEN, which is fresh for each run: no cache
below has seen them.

Imports only what the loops need: the measure is the system calls.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable


def miss(count: int, token: str) -> None:
    """Look up `count` names that are not there, each once."""
    access = os.access
    there = sum([access(f"{token}-{number}", os.F_OK) for number in range(count)])
    if there:
        sys.exit(f"{there} names that nobody made are there")


def churn(count: int, token: str) -> None:
    """Look for, create, chmod, rename and unlink `count` files in a directory of its own."""
    for number in range(count):
        name = f"{token}/{number}"
        os.access(name, os.F_OK)
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        os.chmod(name, 0o600)
        os.rename(name, f"{token}/renamed")
        os.unlink(f"{token}/renamed")


def append(count: int, token: str) -> None:
    """Append a line to each file beneath directory `token`; there must be `count`."""
    found = 0
    for path, _, files in os.walk(token):
        for name in files:
            fd = os.open(f"{path}/{name}", os.O_WRONLY | os.O_APPEND)
            os.write(fd, b"\nappended\n")
            os.close(fd)
            found += 1
    if found != count:
        sys.exit(f"{found} files instead of {count}")


def reopen(count: int, token: str) -> None:
    """Open, read and close `count` times one of the files of this directory, in turn."""
    names = os.listdir()
    for number in range(count):
        fd = os.open(names[number % len(names)], os.O_RDONLY)
        os.read(fd, 4096)
        os.close(fd)


LOOPS: dict[str, Callable[[int, str], None]] = {
    "miss": miss,
    "churn": churn,
    "append": append,
    "reopen": reopen,
}


def main() -> None:
    loop, count, token = LOOPS[sys.argv[1]], int(sys.argv[2]), sys.argv[3]
    if loop is churn:
        os.mkdir(token)
    print("ready", flush=True)
    sys.stdin.readline()
    used, start = time.process_time(), time.monotonic()
    loop(count, token)
    print(start, time.monotonic(), time.process_time() - used, flush=True)
    if loop is churn:
        os.rmdir(token)


if __name__ == "__main__":
    main()
