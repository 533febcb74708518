"""Id mappings as container engines write them."""

from __future__ import annotations

import pytest

from mount_tools.mount.id_maps import MAX_ID, parse_id, parse_id_map
from mount_tools.mount.option_grammar import OptionError, Word
from unionfs.core.config import IdRange


def test_ids() -> None:
    assert parse_id(Word("squash_to_uid", "0")) == 0
    assert parse_id(Word("squash_to_uid", str(MAX_ID))) == MAX_ID


@pytest.mark.parametrize("value", [None, "", "-1", "1.5", "root", "٣", str(MAX_ID + 1), "9" * 5000])
def test_what_is_no_id(value: str | None) -> None:
    with pytest.raises(OptionError, match="not an id"):
        parse_id(Word("squash_to_uid", value))


@pytest.mark.parametrize("value", ["0:1000:1", ":0:1000:1", "0:1000:1:", "0::1000::1"])
def test_stray_colons_are_tolerated(value: str) -> None:
    assert parse_id_map(Word("uidmapping", value)) == (IdRange(0, 1000, 1),)


@pytest.mark.parametrize(
    "value", [None, "", ":", "0:0", "0:0:1:2", "a:b:c", "0:-1:1", "0:٣:1", f"0:0:{2**40}"]
)
def test_maps_that_are_not_triples(value: str | None) -> None:
    with pytest.raises(OptionError, match="uidmapping=ID_IN_LAYER:ID_SHOWN:COUNT"):
        parse_id_map(Word("uidmapping", value))


@pytest.mark.parametrize("value", ["0:0:0", f"{MAX_ID}:0:2", f"0:{MAX_ID}:2", f"0:0:{2**33}"])
def test_maps_that_leave_the_range_of_ids(value: str) -> None:
    with pytest.raises(OptionError, match="is out of range"):
        parse_id_map(Word("uidmapping", value))


@pytest.mark.parametrize("value", ["0:0:10:9:100:1", "0:0:10:10:9:1"])
def test_maps_that_overlap(value: str) -> None:
    with pytest.raises(OptionError, match="twice"):
        parse_id_map(Word("uidmapping", value))


def test_ranges_may_touch() -> None:
    assert len(parse_id_map(Word("uidmapping", "0:0:10:10:10:10"))) == 2
