"""A credential helper for tests: a program that keeps what it gets in a directory."""

from __future__ import annotations

from pathlib import Path

_HELPER = """#!/bin/sh
# Keeps one file a server; says each action in the log, and no secret.
cd '{directory}' || exit 1
case "$1" in
    get|erase)
        read -r server || true
        file=$(printf %s "$server" | tr '/:' '__')
        echo "$1 $server" >> log
        [ -e "$file" ] || {{ echo 'credentials not found in native keychain'; exit 1; }}
        if [ "$1" = get ]; then cat "$file"; else rm "$file"; fi;;
    store)
        input=$(cat)
        server=$(printf %s "$input" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/')
        echo "store $server" >> log
        printf %s "$input" > "$(printf %s "$server" | tr '/:' '__')";;
    *) exit 2;;
esac
"""


def make_helper(directory: Path, name: str = "tests") -> Path:
    """Make the helper `name` in `directory`, which has to be on PATH; return its log."""
    kept = directory / f"kept-{name}"
    kept.mkdir(parents=True)
    program = directory / f"docker-credential-{name}"
    program.write_text(_HELPER.format(directory=kept))
    program.chmod(0o755)
    (kept / "log").touch()
    return kept / "log"
