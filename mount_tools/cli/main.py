"""`pyunion COMMAND`: the names of the commands, and how failures are reported.

Every failure is one sentence on stderr and an exit status, never a traceback:

    0    done
    1    refused or failed, for the reason that the sentence gives
    125  a flag is wrong; for `run` and `create` also everything before the command starts
    130  interrupted
    141  the reader of the output is gone

`run`, `exec` and `start -a` exit with the status of the command that they ran.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from layerstore.errors import StoreError
from mount_tools.cli.errors import Exit, TemplateError, WrongWords
from mount_tools.cli.flags import Option
from mount_tools.cli.framework import Group
from mount_tools.cli.invocation import Invocation, complain, note
from mount_tools.cli.output.standard_output import standard_output
from mount_tools.interrupts import Interruptible
from unionfs.errors import error_text
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mount_tools.container.keeper_process import PreparedKeeper

PROGRAM = "pyunion"
COMPLETION = "_PYUNION_COMPLETE"
ROOT = "PYUNION_ROOT"
INTERRUPTED = 130
READER_GONE = 141

COMMANDS = {
    "attach": "attach_cmd.attach",
    "build": "build_cmd.build",
    "check": "check_cmd.check",
    "commit": "commit_cmd.commit",
    "container": "groups.container",
    "copy": "copy_cmd.copy",
    "cp": "cp_cmd.cp",
    "create": "create_cmd.create",
    "diff": "diff_cmd.diff",
    "engine-check": "engine_check_cmd.engine_check",
    "exec": "exec_cmd.exec_",
    "export": "export_cmd.export",
    "history": "history_cmd.history",
    "image": "groups.image",
    "images": "images_cmd.images",
    "import": "import_cmd.import_",
    "info": "info_cmd.info",
    "inspect": "inspect_cmd.inspect",
    "kill": "kill_cmd.kill",
    "layers": "layers_cmd.layers",
    "load": "load_cmd.load",
    "login": "login_cmd.login",
    "logout": "login_cmd.logout",
    "logs": "logs_cmd.logs",
    "mount": "mount_cmd.mount",
    "offer": "offer_cmd.offer",
    "pause": "pause_cmd.pause",
    "port": "port_cmd.port",
    "prune": "prune_cmd.prune",
    "ps": "ps_cmd.ps",
    "pull": "pull_cmd.pull",
    "push": "push_cmd.push",
    "rename": "rename_cmd.rename",
    "restart": "kill_cmd.restart",
    "restore": "restore_cmd.restore",
    "rm": "rm_cmd.rm",
    "rmi": "rmi_cmd.rmi",
    "run": "run_cmd.run",
    "save": "save_cmd.save",
    "search": "search_cmd.search",
    "start": "start_cmd.start",
    "stop": "stop_cmd.stop",
    "system": "groups.system",
    "tag": "tag_cmd.tag",
    "top": "top_cmd.top",
    "umount": "mount_cmd.umount",
    "unpause": "pause_cmd.unpause",
    "version": "info_cmd.version",
    "volume": "groups.volume",
    "wait": "attach_cmd.wait",
    "which": "which_cmd.which",
}


class Top(Group):
    """The command line itself; its flags are those that say where the store is."""

    def start(self, words: Sequence[str], keeper: PreparedKeeper | None) -> None:
        """Run the command that `words` name; `keeper` is for the container that it starts.

        Raises as `Command.run` does.
        """
        parsed = self.parse(PROGRAM, words)
        if parsed.operands[:1] == ["help"]:  # docker has it, too, without listing it
            parsed = self.parse(PROGRAM, [*parsed.operands[1:], "--help"])
        name = next(iter(parsed.operands), "")
        found = self.named(PROGRAM, name) if name else None
        if parsed.values["version"]:
            from mount_tools.version import own_version

            print(f"PyUnion version {own_version()}")
            return
        if found is None:
            self.show_help(PROGRAM)
            return
        root = parsed.values["root"] or os.environ.get(ROOT)
        invocation = Invocation(
            str(root) if root else None, sync=not parsed.values["no_sync"], keeper=keeper
        )
        try:
            found.run(f"{PROGRAM} {name}", parsed.operands[1:], invocation)
        finally:
            invocation.close()


top = Top(
    PROGRAM,
    "Images of shared layers, containers over them, and instant commits",
    COMMANDS,
    [
        Option(
            "--root",
            metavar="string",
            says="Where the store is (default /var/lib/pyunion; as an ordinary user "
            "$XDG_DATA_HOME/pyunion; or $PYUNION_ROOT)",
        ),
        Option(
            "--no-sync",
            says="Do not wait for the disk: faster, but a power cut may lose recent changes",
            default=False,
        ),
        Option("-v", "--version", says="Print the version and quit", default=False),
    ],
)


def main(words: Sequence[str], keeper: PreparedKeeper | None = None) -> int:
    """Run the command that `words` name; return the exit status.

    `keeper` is for the container that the command starts.
    """
    _prepare_streams()
    try:
        instruction = os.environ.get(COMPLETION)
        status = _complete(instruction) if instruction else _guarded(words, keeper)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes again when it exits, and would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except StoreError as error:  # the end of the output
        complain(str(error))
        return 1
    return status


def _complete(instruction: str) -> int:
    """Print the completion script of a shell, or the completions of a line."""
    from mount_tools.cli.completion import complete

    return complete(top, PROGRAM, COMPLETION, instruction)


def _prepare_streams() -> None:
    """Make the standard streams accept any text, in any locale, also if one of them is closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: object = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for the life of the process
        elif isinstance(stream, io.TextIOWrapper) and mode == "w":
            # File names are bytes and printed as such.
            if name == "stdout" and stream is sys.__stdout__:
                sys.stdout = standard_output(stream)
            else:
                stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def _guarded(words: Sequence[str], keeper: PreparedKeeper | None) -> int:
    """Run the command, print its error if there is one, and return the exit status."""
    try:
        with Interruptible():
            top.start(words, keeper)
        return 0
    except Exit as exit_:
        return exit_.status
    except WrongWords as error:
        note(error.message)
        return error.status
    except TemplateError as error:
        note(f"template parsing error: {error}")
        return 1
    except StoreError as error:
        _trace()
        complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        _trace()
        complain(error_text(error))
        return 1
    except KeyboardInterrupt:
        note("")
        return INTERRUPTED
    except MemoryError:
        complain("out of memory")
        return 1
    except Exception as error:
        if _trace():
            return 1
        what = f"{type(error).__name__}: {error}"
        complain(
            f"a bug in PyUnion ({what}); please report it with the traceback that "
            "PYUNION_DEBUG=1 prints"
        )
        return 1


def _trace() -> bool:
    """Print the traceback of an error if the user wants it; tell whether they do."""
    wanted = bool(os.environ.get("PYUNION_DEBUG"))
    if wanted:
        from traceback import print_exc

        print_exc()
    return wanted
