"""Completion in bash, also of names that contain a colon.

bash splits a word at the characters of COMP_WORDBREAKS: if the user types `busy:1`, it asks
for completions of "1" and replaces only that.  So the script passes the whole line, and
`complete` prints the names that fit without the part that bash keeps.

Words that are not names of images or containers are left to bash, which completes file
names.

Source: bash(1), "Programmable Completion"; click `shell_completion.py`.
"""

from __future__ import annotations

import os

from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

SCRIPT = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            file | dir) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(
        env %(complete_var)s=bash_complete COMP_COMMAND="$1" COMP_CURRENT="$2" \\
            COMP_TYPED="${COMP_LINE:0:COMP_POINT}" "$1"
    )
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class BashCompletion(ShellComplete):
    """Prints the completions that SCRIPT asks for."""

    name = "bash"
    source_template = SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        typed = os.environ.get("COMP_TYPED", "")
        words = split_arg_string(typed)
        incomplete = "" if not words or typed[-1:].isspace() else words.pop()
        # The line may start with assignments.
        command = os.environ.get("COMP_COMMAND", "")
        start = words.index(command) + 1 if command in words else 1
        return words[start:], incomplete

    def complete(self) -> str:
        """Return a line `kind,value` for each completion."""
        args, incomplete = self.get_completion_args()
        found = self.get_completions(args, incomplete)
        typed = incomplete.partition("=")[2] if incomplete.startswith("-") else incomplete
        current = os.environ.get("COMP_CURRENT", "")
        kept = typed.removesuffix(current) if current not in (":", "=") else typed
        return "\n".join(self._line(item, kept) for item in found)

    def format_completion(self, item: CompletionItem[str]) -> str:
        return self._line(item, "")

    def _line(self, item: CompletionItem[str], kept: str) -> str:
        return f"{item.type},{item.value.removeprefix(kept)}"
