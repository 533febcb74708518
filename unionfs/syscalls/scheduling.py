"""SCHED_IDLE for threads whose clients wait for them.

A CPU that runs only SCHED_IDLE threads counts as idle.  So a client that such a thread
wakes stays on its CPU and runs at once, instead of being moved to another CPU that has to
be woken first.  The weight of an idle thread is the lowest there is, but only among the
threads of its own scheduling group: in a session that has a group to itself (autogroup)
it costs nothing, as long as the threads are woken by a client that then sleeps.  A thread that
a disk wakes on a busy CPU waits for the next tick, since idle threads preempt no other.

Source: sched(7) "SCHED_IDLE", "The autogroup feature"; kernel/sched/fair.c:sched_idle_cpu(),
check_preempt_wakeup_fair(); kernel/sched/autogroup.c; cgroups(7).
"""

from __future__ import annotations

import os
from contextlib import suppress

# ns_get_inode: PROC_CGROUP_INIT_INO, include/linux/proc_ns.h
INITIAL_CGROUP_NAMESPACE = 0xEFFFFFFB

_AUTOGROUP = "/proc/sys/kernel/sched_autogroup_enabled"
_CGROUPS = "/sys/fs/cgroup"


def idle_is_free(cgroups: str = _CGROUPS) -> bool:
    """Tell whether SCHED_IDLE takes no processor time from the threads of this process.

    That holds if the process leads a session with a scheduling group of its own: the kernel
    makes one for each session (autogroup), and uses it for processes that are in no cgroup
    with a share of its own.  False if that cannot be seen.
    """
    try:
        if os.getsid(0) != os.getpid() or read_text(_AUTOGROUP).strip() != "1":
            return False
        if os.stat("/proc/self/ns/cgroup").st_ino != INITIAL_CGROUP_NAMESPACE:
            return False
        return not _has_share(read_text("/proc/self/cgroup"), cgroups)
    except OSError:
        return False


def become_idle() -> None:
    """Give all threads of this process, and those that they start, the policy SCHED_IDLE."""
    _set_policy(os.SCHED_IDLE)


def become_normal() -> None:
    """Give them all the policy SCHED_OTHER again; raises EPERM unless `idle_can_be_left`."""
    _set_policy(os.SCHED_OTHER)


def idle_can_be_left() -> bool:
    """Tell whether this process may go back from SCHED_IDLE to SCHED_OTHER.

    That takes CAP_SYS_NICE, or an RLIMIT_NICE that few users have.  It is tried with the calling
    thread, which stays SCHED_IDLE if not.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except PermissionError:
        return False
    return True


def run_delay_ns() -> int:
    """Return how long the calling thread has waited for a CPU, in ns; 0 if that is not counted.

    Source: Documentation/scheduler/sched-stats.rst "/proc/<pid>/schedstat".
    """
    try:
        return int(read_text("/proc/thread-self/schedstat").split()[1])
    except (OSError, IndexError):
        return 0


def _set_policy(policy: int) -> None:
    done: set[str] = set()
    # A thread that has not got it yet may have started another one meanwhile.
    while missing := set(os.listdir("/proc/self/task")) - done:
        for thread in missing:
            with suppress(ProcessLookupError):
                os.sched_setscheduler(int(thread), policy, os.sched_param(0))
        done |= missing


def _has_share(text: str, cgroups: str) -> bool:
    """Tell whether a cgroup of /proc/PID/cgroup, or one above it, has a share of the CPU.

    Raises `OSError` if the cgroups cannot be looked at.
    """
    unified = None
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return path != "/"  # version 1: every cgroup below the root has a share
        if not controllers:
            unified = path
    while unified is not None and unified != "/":
        folder = cgroups + unified
        os.stat(folder)
        if os.path.exists(f"{folder}/cpu.weight"):
            return True
        unified = os.path.dirname(unified)
    return False


def read_text(path: str) -> str:
    with open(path) as file:
        return file.read()
