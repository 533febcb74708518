"""Ask the user before a command removes something for good.

Source: docker/cli `cli/command/utils.go:PromptForConfirmation()`.
"""

from __future__ import annotations

import sys

from mount_tools.cli.output.terminal import for_stream

QUESTION = "Are you sure you want to continue?"


def confirmed(warning: str) -> bool:
    """Print `warning` and ask; return whether the answer is `y` or `yes`.

    The end of the input counts as no.
    """
    warning = for_stream(warning, sys.stdout)
    print(f"WARNING! {warning}\n{QUESTION} [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(flush=True)
    return answer.strip().lower() in ("y", "yes")
