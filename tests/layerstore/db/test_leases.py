"""Leases: they last as long as the work, or as its process."""

from __future__ import annotations

import os
import signal

import pytest

from layerstore import Store
from tests.helpers import children


def test_lease_lasts_as_long_as_the_work(store: Store) -> None:
    with store.leases.lease("layer", "sha256:x") as number:
        (lease,) = store.leases.all()
        assert (lease.id, lease.kind, lease.key) == (number, "layer", "sha256:x")
        assert lease.holder.pid == os.getpid() and store.leases.stale() == []
    assert store.leases.all() == []


def test_lease_ends_with_a_failure_too(store: Store) -> None:
    with pytest.raises(KeyError), store.leases.lease("work", "x"):
        raise KeyError
    with pytest.raises(KeyError), store.leases.lease("work", "y"):
        store.leases.hold("layer", "l")
        raise KeyError
    assert store.leases.all() == []


def test_failure_within_a_transaction_goes_with_it(store: Store) -> None:
    with pytest.raises(KeyError), store.database.transaction(), store.leases.lease("work", "x"):
        store.leases.hold("layer", "l")
        raise KeyError
    assert store.leases.all() == []


def test_what_is_made_is_held_within_every_work_under_way(store: Store) -> None:
    store.leases.hold("blob", "unheld")
    with store.leases.lease("work", "outer") as outer:
        with store.leases.lease("work", "inner") as inner:
            store.leases.hold("blob", "b")
        held = [(lease.within, lease.key) for lease in store.leases.all() if lease.kind == "blob"]
        assert held == [(outer, "b")]
    assert inner != outer and store.leases.all() == []


def test_lease_of_a_killed_process_is_stale(store: Store) -> None:
    def work() -> None:
        with store.leases.lease("work", "doomed"):
            store.leases.hold("layer", "l")
            os.kill(os.getpid(), signal.SIGKILL)

    assert children.wait(children.spawn(work)) == -signal.SIGKILL
    stale = store.leases.stale()
    assert sorted(lease.kind for lease in stale) == ["layer", "work"]
    store.leases.end(stale)


def test_work_of_the_parent_is_not_the_childs(store: Store) -> None:
    with store.leases.lease("work", "parent"):
        children.run(lambda: store.leases.hold("blob", "b"))
        assert [lease.kind for lease in store.leases.all()] == ["work"]
