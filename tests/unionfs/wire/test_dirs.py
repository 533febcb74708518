"""Which listings bring the attributes of files."""

from __future__ import annotations

from unionfs.types import NodeId
from unionfs.wire.dirs import PATIENCE, TRIAL, WATCHED, Demand


def look_up(demand: Demand, parent: int) -> None:
    """Do as a LOOKUP of a file does."""
    if NodeId(parent) in demand.bare:
        demand.looked_up(NodeId(parent))


def listed(demand: Demand, begin: int, count: int) -> list[bool]:
    """List `count` directories; return which of them are listed with attributes."""
    return [demand.begin(NodeId(nodeid)) for nodeid in range(begin, begin + count)]


def test_nobody_wants_files_before_one_is_looked_up() -> None:
    assert not any(listed(Demand(), 2, 200))


def test_a_file_looked_up_where_it_was_listed_without_makes_them_wanted() -> None:
    demand = Demand()
    demand.begin(NodeId(2))
    look_up(demand, 3)
    assert not demand.wanted
    look_up(demand, 2)
    assert demand.wanted
    assert demand.begin(NodeId(4))


def test_a_directory_listed_long_ago_says_nothing() -> None:
    demand = Demand()
    listed(demand, 2, WATCHED + 1)
    look_up(demand, 2)
    assert not demand.wanted
    look_up(demand, 2 + WATCHED)
    assert demand.wanted


def test_what_is_no_longer_wanted_is_found_out_by_trying() -> None:
    demand = Demand()
    demand.begin(NodeId(2))
    look_up(demand, 2)
    answers = listed(demand, 10, PATIENCE + TRIAL)
    in_turn = [True] * (TRIAL - 1) + [False]
    assert answers == in_turn * (PATIENCE // TRIAL) + [False] * TRIAL


def test_what_is_still_wanted_stays_so() -> None:
    demand = Demand()
    demand.begin(NodeId(2))
    look_up(demand, 2)
    bare = 0
    for nodeid in range(10, 10 + 4 * PATIENCE):
        if not demand.begin(NodeId(nodeid)):
            bare += 1
        look_up(demand, nodeid)
    assert bare == 4 * PATIENCE // TRIAL


def test_files_may_be_looked_up_long_after_their_directories_were_listed() -> None:
    """As by find -exec md5sum {} +, which lists many directories in between."""
    demand = Demand()
    assert not any(listed(demand, 2, 200))
    for nodeid in range(2, 202):
        look_up(demand, nodeid)
    for begin in range(1000, 5000, 200):
        answers = listed(demand, begin, 200)
        assert answers.count(False) <= 200 // TRIAL + 1
        for nodeid in range(begin, begin + 200):
            look_up(demand, nodeid)
