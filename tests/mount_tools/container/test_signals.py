"""Signals are taken and passed on, whenever they come: nothing but processes, no container."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from mount_tools.container.signals import signal_number
from tests.helpers.mounts import DEADLINE, helper_environment
from tests.helpers.signal_masks import signal_masks

ROUNDS = 1000

BEGIN = """
import mmap, os, random, signal, sys, time
from mount_tools.container import signals

def forked(work):
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = work() or 0
        finally:
            os._exit(status)
    return pid

def code(status):
    return os.waitstatus_to_exitcode(status)

signal.alarm(50)  # of one that waits for ever
"""


def said(script: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script, *words],
        env=helper_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.mark.slow
def test_no_signal_is_lost_however_soon_it_comes() -> None:
    """Each round ends only if its one signal gets through.

    With handlers and waitpid(2) one in some six hundred is lost.
    """
    script = """
us = os.getpid()
chance = random.Random(0)
begun = mmap.mmap(-1, 1)
for number in range(int(sys.argv[1])):
    pause = chance.random() * 3e-5
    begun[0] = 0
    with signals.held():
        target = forked(lambda: 7 if signal.sigwait({signal.SIGUSR1}) else 1)
        def shoot():
            while not begun[0]:
                pass
            end = time.perf_counter() + pause
            while time.perf_counter() < end:
                pass
            os.kill(us, signal.SIGUSR1)
        shooter = forked(shoot)
        begun[0] = 1
        status = signals.attend(target, lambda taken: os.kill(target, taken.si_signo))
        assert code(status) == 7
    os.waitpid(shooter, 0)
print("done")
"""
    assert said(script, str(ROUNDS)) == "done\n"


def test_what_ended_before_anybody_waits_is_noticed() -> None:
    script = """
child = forked(lambda: 5)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
with signals.held():
    print(code(signals.attend(child, print)))
"""
    assert said(script) == "5\n"


def test_orphans_are_reaped_and_the_children_of_others_are_not() -> None:
    script = """
for orphans in (True, False):
    with signals.held():
        other = forked(lambda: 3)
        os.waitid(os.P_PID, other, os.WEXITED | os.WNOWAIT)
        child = forked(lambda: 4)
        print(code(signals.attend(child, print, orphans=orphans)))
    try:
        print(code(os.waitpid(other, 0)[1]))
    except ChildProcessError:
        print("reaped")
"""
    assert said(script) == "4\nreaped\n4\n3\n"


def test_a_parent_that_ignores_its_children_hears_of_this_one() -> None:
    script = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, lambda *_: print("late"))
before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
with signals.held():
    child = forked(lambda: 6)
    print(code(signals.attend(child, print)))
    os.kill(os.getpid(), signal.SIGUSR2)
print(signal.getsignal(signal.SIGCHLD).name, signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before)
"""
    assert said(script) == "6\nlate\nSIG_IGN True\n"


def test_a_program_begins_with_nothing_ignored_and_nothing_blocked() -> None:
    script = """
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGPIPE):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGALRM,))
with signals.held():
    signals.begin_afresh()
    os.execvp("cat", ["cat", "/proc/self/status"])
"""
    found = signal_masks(said(script).splitlines())
    assert (found["SigBlk"], found["SigIgn"], found["SigCgt"]) == (0, 0, 0)


def test_what_is_typed_is_told_from_what_is_sent() -> None:
    """Ctrl-C reaches the whole process group; kill(1) reaches us alone."""
    script = """
import pty, termios
child, ours = pty.fork()
if child == 0:
    with signals.held():
        print("ready", flush=True)
        for _ in range(2):
            taken = signal.sigwaitinfo(signals.TAKEN)
            print("typed" if signals.is_typed(taken) else "sent", flush=True)
    os._exit(0)
with open(ours, "r+b", buffering=0) as terminal:
    def line():
        text = b""
        while not text.endswith(b"\\n"):
            text += terminal.read(1)
        return text.decode().strip()
    print(line())
    terminal.write(b"\\x03")
    print(line()[-5:])
    os.kill(child, signal.SIGINT)
    print(line())
"""
    assert said(script) == "ready\ntyped\nsent\n"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", signal.SIGTERM),
        ("SIGINT", signal.SIGINT),
        ("quit", signal.SIGQUIT),
        ("9", signal.SIGKILL),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
        ("0", signal.SIGTERM),
        ("999", signal.SIGTERM),
        ("\u0663", signal.SIGTERM),
        ("SIG_IGN", signal.SIGTERM),
        ("nonsense", signal.SIGTERM),
        ("RTMAX+9", signal.SIGTERM),
    ],
)
def test_the_signals_that_an_image_may_name(text: str, number: int) -> None:
    assert signal_number(text) == number
