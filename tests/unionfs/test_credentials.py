"""The rights of the thread that asks for a change."""

from __future__ import annotations

import subprocess
import threading

from tests.helpers.mounts import DEADLINE, require_root
from tests.helpers.security import GROUP_ID, USER_ID, run_as
from unionfs.credentials import UNKNOWN_ID, Credentials


def own() -> Credentials:
    return Credentials(threading.get_native_id(), 0)


def unknown() -> Credentials:
    return Credentials(threading.get_native_id(), UNKNOWN_ID)


def test_root_keeps_suid_and_a_user_does_not() -> None:
    require_root()
    assert own().keeps_suid()
    assert not run_as(lambda: own().keeps_suid())


def test_root_sees_trusted_names_if_it_has_the_capability() -> None:
    require_root()
    assert own().sees_trusted()
    with subprocess.Popen(
        ["setpriv", "--bounding-set=-sys_admin", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"x\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"x\n", "it runs cat, and has given the right up"
        assert not Credentials(child.pid, 0).sees_trusted()
        assert Credentials(child.pid, 0).keeps_suid()
        child.stdin.close()


def test_a_process_that_has_ended_has_no_rights() -> None:
    child = subprocess.Popen(["true"])
    child.wait(DEADLINE)
    ended = Credentials(child.pid, 0)
    assert not ended.keeps_suid()
    assert not ended.is_member(77)
    assert not Credentials(0, 5).keeps_suid()


def test_an_owner_is_the_user_or_has_the_capability_where_the_user_is_known() -> None:
    require_root()
    assert own().owns(77)
    assert not run_as(lambda: own().owns(77)) and run_as(lambda: own().owns(USER_ID))
    assert Credentials(0, 5, 77).owns(77) and not Credentials(0, 5, 77).owns(78)
    script = ("unshare", "--user", "--map-root-user", "cat")
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"x\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"x\n", "it is root of a user namespace by now"
        assert Credentials(child.pid, 5).owns(0) and not Credentials(child.pid, 5).owns(77)
        child.stdin.close()


def test_membership_is_of_the_filesystem_group_and_the_supplementary_ones() -> None:
    require_root()
    assert Credentials(0, 5).is_member(5)
    assert run_as(lambda: own().is_member(77), groups=(76, 77))
    assert run_as(lambda: unknown().is_member(77), groups=(76, 77))
    assert run_as(lambda: unknown().is_member(GROUP_ID)), "read from /proc"
    assert not run_as(lambda: unknown().is_member(GROUP_ID + 1))
    assert not run_as(lambda: own().is_member(GROUP_ID + 1), groups=(76, 77))
