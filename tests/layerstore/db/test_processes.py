"""Who a process is: believed while it lives, and never once its pid is another's."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from layerstore.db.processes import (
    ProcessId,
    is_stopped,
    parent_of,
    process_start,
    this_process,
    way_in,
)
from tests.helpers import children
from tests.helpers.mounts import require_root, wait_until
from tests.helpers.namespaces import ending_init
from tests.helpers.processes import ending
from unionfs.syscalls.namespaces import hide_from_others


def test_this_process_is_alive_and_its_pid_of_another_start_is_not() -> None:
    me = this_process()
    assert me.pid == os.getpid() and me.alive()
    assert not me._replace(start=me.start - 1).alive()


def test_a_signal_goes_to_no_process_that_has_got_the_pid() -> None:
    with ending(subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)) as child:
        start = process_start(child.pid)
        assert start is not None
        with pytest.raises(ProcessLookupError):
            ProcessId(child.pid, start - 1).send(signal.SIGKILL)
        ProcessId(child.pid, start).send(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        ProcessId(child.pid, start).send(signal.SIGKILL)


def test_process_of_another_boot_is_dead() -> None:
    me = this_process()
    assert not ProcessId(me.pid, me.start ^ (1 << 41)).alive()


def test_start_fits_in_the_database() -> None:
    assert 0 < this_process().start < 2**63


def test_process_that_ended_is_dead_even_before_it_is_waited_for() -> None:
    with ending(subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)) as child:
        start = process_start(child.pid)
        assert start is not None and ProcessId(child.pid, start).alive()
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process_start(child.pid) is None
        child.wait()
    assert not ProcessId(child.pid, start).alive()


def test_command_name_may_be_anything() -> None:
    child = subprocess.Popen(
        ["/bin/sh", "-c", "printf ') Z 1 (' > /proc/self/comm; echo; read x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with ending(child):
        assert child.stdout is not None
        child.stdout.readline()
        assert process_start(child.pid) is not None


def test_the_parent_of_a_process_and_whether_it_was_stopped() -> None:
    with ending(subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)) as child:
        assert parent_of(child.pid) == os.getpid()
        assert not is_stopped(child.pid)
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(child.pid), "it to stop")
        child.send_signal(signal.SIGCONT)
        wait_until(lambda: not is_stopped(child.pid), "it to go on")
    assert not is_stopped(child.pid)
    with pytest.raises(ProcessLookupError):
        parent_of(child.pid)


def test_a_process_that_ends_leads_nowhere_and_its_parent_to_this_machine() -> None:
    with ending_init() as (init, _):
        assert process_start(init) is not None and parent_of(init)
        with pytest.raises(ProcessLookupError):
            way_in(init)


def test_a_parent_of_this_machine_leads_into_no_container() -> None:
    """Nor where /proc hides the entries of init, as from an ordinary user."""
    require_root()
    assert way_in(os.getpid()) == os.getpid()

    def hide(ready: int) -> None:
        hide_from_others()
        os.write(ready, b"!")
        signal.pause()

    def look() -> None:
        reading, writing = os.pipe()
        child = children.spawn(lambda: hide(writing))
        os.read(reading, 1)
        try:
            with pytest.raises(PermissionError):
                os.readlink(f"/proc/{child}/ns/mnt")
            with pytest.raises(ProcessLookupError):
                way_in(child)
        finally:
            os.kill(child, signal.SIGKILL)

    children.run(look, nobody=True)
