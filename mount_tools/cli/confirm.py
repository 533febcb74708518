"""Asking before something goes for good.

Source: docker/cli `cli/command/utils.go:PromptForConfirmation()`.
"""

from __future__ import annotations

import sys

QUESTION = "Are you sure you want to continue?"


def confirmed(warning: str) -> bool:
    """Print `warning` and ask; only `y` or `yes` means it, the end of the input does not."""
    print(f"WARNING! {warning}\n{QUESTION} [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(flush=True)
    return answer.strip().lower() in ("y", "yes")
