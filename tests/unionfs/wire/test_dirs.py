"""Which listings bring the attributes of files."""

from __future__ import annotations

from unionfs.types import LookedUp, NodeId
from unionfs.wire.dirs import AT_FIRST, PATIENCE, TRIAL, WATCHED, Demand

SIZE = 8192  # bytes of the listing of each directory
DIRS = PATIENCE // SIZE + 1
ALL, BUT_ONE, NONE = LookedUp.EVERYTHING, LookedUp.ALL_BUT_A_FILE, LookedUp.DIRECTORIES


def look_up(demand: Demand, parent: int) -> None:
    """Do as a LOOKUP of a file does."""
    if NodeId(parent) in demand.bare:
        demand.looked_up(NodeId(parent))


def list_one(demand: Demand, nodeid: int, size: int = SIZE) -> LookedUp:
    """List a directory; return what came with attributes."""
    what = demand.begin(NodeId(nodeid))
    if what is not NONE:
        demand.listed(NodeId(nodeid), size)
    return what


def listed(demand: Demand, begin: int, count: int) -> list[LookedUp]:
    """List `count` directories; return what of each came with attributes."""
    return [list_one(demand, nodeid) for nodeid in range(begin, begin + count)]


def wanting() -> Demand:
    """Return what it is after a lookup."""
    demand = Demand()
    demand.begin(NodeId(2))
    look_up(demand, 2)
    return demand


def unwanting() -> Demand:
    """Return what it is when much was listed without a lookup."""
    demand = Demand()
    listed(demand, 2, AT_FIRST // SIZE + 1)
    return demand


def test_at_first_it_waits_for_a_lookup_in_each_directory_for_a_while() -> None:
    often = AT_FIRST // SIZE + 1
    assert listed(Demand(), 2, 200) == often * [BUT_ONE] + (200 - often) * [NONE]


def test_a_lookup_in_the_first_directory_makes_all_wanted() -> None:
    demand = Demand()
    assert demand.begin(NodeId(2)) is BUT_ONE
    look_up(demand, 2)
    assert listed(demand, 3, TRIAL) == (TRIAL - 1) * [ALL] + [BUT_ONE]


def test_the_rest_of_a_directory_comes_with_attributes_if_they_are_wanted() -> None:
    demand = Demand()
    demand.begin(NodeId(2))
    assert demand.rest() is ALL
    assert unwanting().rest() is NONE


def test_a_file_looked_up_where_it_was_listed_without_makes_them_wanted() -> None:
    demand = unwanting()
    assert demand.begin(NodeId(100)) is NONE
    look_up(demand, 200)
    assert demand.begin(NodeId(101)) is NONE
    look_up(demand, 100)
    assert demand.begin(NodeId(102)) is ALL


def test_a_directory_listed_long_ago_says_nothing() -> None:
    demand = unwanting()
    listed(demand, 100, WATCHED + 1)
    look_up(demand, 100)
    assert demand.rest() is NONE
    look_up(demand, 100 + WATCHED)
    assert demand.rest() is ALL


def test_what_is_no_longer_wanted_is_found_out_by_trying() -> None:
    demand = wanting()
    answers = listed(demand, 10, 2 * DIRS)
    assert answers[: 2 * TRIAL] == 2 * ([ALL] * (TRIAL - 1) + [BUT_ONE])
    assert answers.count(NONE) == DIRS
    assert set(answers[-DIRS:]) == {NONE}


def test_what_is_still_wanted_stays_so() -> None:
    demand = wanting()
    tries = 0
    for nodeid in range(10, 10 + 4 * DIRS):
        what = list_one(demand, nodeid)
        assert what is not NONE
        tries += what is BUT_ONE
        look_up(demand, nodeid)
    assert tries == 4 * DIRS // TRIAL


def test_a_large_directory_is_not_listed_with_attributes_to_its_end_in_vain() -> None:
    demand = wanting()
    assert list_one(demand, 10, PATIENCE) is ALL
    assert demand.rest() is ALL
    demand.listed(NodeId(10), SIZE)
    assert demand.rest() is NONE
    look_up(demand, 10)
    assert demand.rest() is ALL


def test_files_may_be_looked_up_long_after_their_directories_were_listed() -> None:
    """As by find -exec md5sum {} +, which lists many directories in between."""
    demand = unwanting()
    assert set(listed(demand, 100, 200)) == {NONE}
    for nodeid in range(100, 300):
        look_up(demand, nodeid)
    for begin in range(1000, 5000, 200):
        answers = listed(demand, begin, 200)
        assert NONE not in answers
        assert answers.count(BUT_ONE) <= 200 // TRIAL + 1
        for nodeid in range(begin, begin + 200):
            look_up(demand, nodeid)
