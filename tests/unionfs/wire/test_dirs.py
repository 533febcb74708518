"""Which listings bring the attributes of files."""

from __future__ import annotations

from unionfs.types import NodeId
from unionfs.wire.dirs import PATIENCE, TRIAL, WATCHED, Demand

SIZE = 8192  # bytes of the listing of each directory
DIRS = PATIENCE // SIZE + 1


def look_up(demand: Demand, parent: int) -> None:
    """Do as a LOOKUP of a file does."""
    if NodeId(parent) in demand.bare:
        demand.looked_up(NodeId(parent))


def list_one(demand: Demand, nodeid: int, size: int = SIZE) -> bool:
    """List a directory; tell whether its files come with attributes."""
    files = demand.begin(NodeId(nodeid))
    if files:
        demand.listed(NodeId(nodeid), size)
    return files


def listed(demand: Demand, begin: int, count: int) -> list[bool]:
    """List `count` directories; return which of them are listed with attributes."""
    return [list_one(demand, nodeid) for nodeid in range(begin, begin + count)]


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
    answers = listed(demand, 10, 2 * DIRS)
    assert sum(answers) == DIRS
    assert not any(answers[-DIRS // 2 :])
    assert answers[: 2 * TRIAL] == 2 * ([True] * (TRIAL - 1) + [False])


def test_what_is_still_wanted_stays_so() -> None:
    demand = Demand()
    demand.begin(NodeId(2))
    look_up(demand, 2)
    bare = 0
    for nodeid in range(10, 10 + 4 * DIRS):
        bare += not list_one(demand, nodeid)
        look_up(demand, nodeid)
    assert bare == 4 * DIRS // TRIAL


def test_a_large_directory_is_not_listed_with_attributes_to_its_end_in_vain() -> None:
    demand = Demand()
    demand.begin(NodeId(2))
    look_up(demand, 2)
    assert list_one(demand, 10, PATIENCE)
    assert demand.wanted
    demand.listed(NodeId(10), 1)
    assert not demand.wanted
    look_up(demand, 10)
    assert demand.wanted, "its rest was wanted all the same"


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
