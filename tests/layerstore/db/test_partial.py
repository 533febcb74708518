"""Downloads that are kept: who has them, and what becomes of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from layerstore.db.partial import PartialBlobs
from layerstore.oci.digest import sha256_digest
from tests.helpers.mounts import DEADLINE

BLOB = sha256_digest(b"blob")
DAY = 86_400 * 10**9


class GivenUp(Exception):
    """The wait was given up."""


def never() -> None:
    raise GivenUp


@pytest.fixture
def partial(tmp_path: Path) -> PartialBlobs:
    return PartialBlobs(tmp_path / "partial")


def test_what_was_written_is_there_for_the_next_claim(partial: PartialBlobs) -> None:
    with partial.claim(BLOB, never) as mine:
        assert mine.size() == 0
        os.write(mine.fd, b"some")
    with partial.claim(BLOB, never) as mine:
        assert mine.size() == 4 and mine.path.read_bytes() == b"some"
        assert mine.path.stat().st_mode & 0o777 == 0o600


def test_one_has_a_blob_at_a_time(partial: PartialBlobs) -> None:
    done: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with partial.claim(BLOB, waiting.set):
            done.append("second")

    with partial.claim(BLOB, never):
        thread = threading.Thread(target=second)
        thread.start()
        waiting.wait(DEADLINE)
        with pytest.raises(GivenUp), partial.claim(BLOB, never):
            pass
        done.append("first")
    thread.join(30)
    assert done == ["first", "second"]


def test_a_claim_ends_before_the_reading_of_the_file(partial: PartialBlobs) -> None:
    with partial.claim(BLOB, never) as mine:
        reader = os.dup(mine.fd)
    with partial.claim(BLOB, never):
        os.close(reader)


def test_a_restart_keeps_the_claim_and_spares_what_is_linked(partial: PartialBlobs) -> None:
    with partial.claim(BLOB, never) as mine:
        os.write(mine.fd, b"wrong")
        os.link(mine.path, mine.path.with_name("blob in the store"))
        mine.restart()
        assert mine.size() == 0
        with pytest.raises(GivenUp), partial.claim(BLOB, never):
            pass
        assert mine.path.with_name("blob in the store").read_bytes() == b"wrong"
    with partial.claim(BLOB, never) as mine:
        assert mine.size() == 0


def test_a_removed_download_is_not_waited_for(partial: PartialBlobs) -> None:
    claimed = threading.Event()

    def second() -> None:
        with partial.claim(BLOB, claimed.set) as own:
            os.write(own.fd, b"new")

    with partial.claim(BLOB, never) as mine:
        os.write(mine.fd, b"old")
        thread = threading.Thread(target=second)
        thread.start()
        claimed.wait(DEADLINE)
        partial.remove(BLOB)
        assert mine.path.exists(), "somebody has it"
        mine.path.unlink()
    thread.join(30)
    with partial.claim(BLOB, never) as mine:
        assert mine.path.read_bytes() == b"new"


def test_a_claim_to_a_layer_leaves_nothing(partial: PartialBlobs) -> None:
    with partial.claim_layer(BLOB, never):
        with pytest.raises(GivenUp), partial.claim_layer(BLOB, never):
            pass
        with partial.claim(BLOB, never):
            pass
    partial.remove(BLOB)
    assert partial.all() == []


def test_a_sweep_spares_what_is_claimed_or_young(partial: PartialBlobs) -> None:
    other = sha256_digest(b"other")
    with partial.claim(other, never) as mine:
        os.write(mine.fd, bytes(8192))
    with partial.claim(BLOB, never) as mine:
        os.write(mine.fd, bytes(8192))
        assert partial.sweep(DAY) == 0 and len(partial.all()) == 2
        assert partial.sweep() == 8192
        assert partial.all() == [mine.path]


def test_a_claim_ends_with_its_process(tmp_path: Path, partial: PartialBlobs) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from layerstore.db.partial import PartialBlobs\n"
        "from layerstore.oci.digest import Digest\n"
        "with PartialBlobs(Path(sys.argv[1])).claim(Digest(sys.argv[2]), print) as mine:\n"
        "    os.write(mine.fd, b'part'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "partial", BLOB], check=False, timeout=DEADLINE
    )
    assert killed.returncode == -9
    with partial.claim(BLOB, never) as mine:
        assert mine.path.read_bytes() == b"part"
