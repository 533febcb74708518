"""Which listings bring the attributes of files."""

from __future__ import annotations

from unionfs.types import NodeId
from unionfs.wire.dirs import TRIAL, WATCHED, Demand


def test_nobody_wants_files_before_one_is_looked_up() -> None:
    demand = Demand()
    assert not any(demand.begin(NodeId(nodeid)) for nodeid in range(2, 200))


def test_a_file_looked_up_where_it_was_listed_without_makes_them_wanted() -> None:
    demand = Demand()
    demand.begin(NodeId(2))
    demand.looked_up(NodeId(3))
    assert not demand.wanted
    demand.looked_up(NodeId(2))
    assert demand.wanted
    assert demand.begin(NodeId(4))


def test_a_directory_listed_long_ago_says_nothing() -> None:
    demand = Demand()
    for nodeid in range(2, 2 + WATCHED + 1):
        demand.begin(NodeId(nodeid))
    demand.looked_up(NodeId(2))
    assert not demand.wanted
    demand.looked_up(NodeId(2 + WATCHED))
    assert demand.wanted


def test_what_is_no_longer_wanted_is_found_out_by_trying() -> None:
    demand = Demand()
    demand.begin(NodeId(2))
    demand.looked_up(NodeId(2))
    answers = [demand.begin(NodeId(nodeid)) for nodeid in range(10, 10 + 2 * TRIAL)]
    assert answers == [True] * (TRIAL - 1) + [False] * (TRIAL + 1)


def test_what_is_still_wanted_stays_so() -> None:
    demand = Demand()
    demand.begin(NodeId(2))
    bare = 0
    for nodeid in range(10, 10 + 4 * TRIAL):
        demand.looked_up(NodeId(2))
        if not demand.begin(NodeId(nodeid)):
            bare += 1
            demand.looked_up(NodeId(nodeid))
    assert bare <= 5
