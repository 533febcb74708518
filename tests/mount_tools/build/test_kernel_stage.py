"""Steps before the first RUN: the kernel's overlayfs makes the layers that we make."""

from __future__ import annotations

from pathlib import Path

import pytest

from mount_tools.build.kernel_stage import MOST_LOWERS, is_possible
from tests.helpers.builds import Builds, cached
from tests.helpers.mounts import require_root

TEXT = """FROM busy:1
WORKDIR /deep/er
COPY f .
COPY --chown=5:6 f /bin/
COPY --chmod=600 tree /etc/
COPY f /file
COPY tree /deep/er/tree
WORKDIR /deep
COPY tree/x er/f
"""


@pytest.fixture
def given(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> Builds:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    (builds.context / "tree/sub").mkdir(parents=True)
    (builds.context / "tree/x").write_text("x")
    (builds.context / "tree/sub/y").write_text("y")
    (builds.context / "tree/sub/link").symlink_to("y")
    builds.write(TEXT, f="content")
    return builds


def mounted(builds: Builds) -> list[str]:
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in table if str(builds.context.parent) in line]


def test_its_layers_are_those_that_our_mount_makes(given: Builds) -> None:
    given.ok()
    made = given.config()["rootfs"]["diff_ids"]
    assert len(made) == 8
    # From the first RUN on the stage is mounted by us.
    given.ok(TEXT.replace("FROM busy:1\n", "FROM busy:1\nRUN true\n"), "--no-cache")
    assert given.config()["rootfs"]["diff_ids"] == made
    assert mounted(given) == []


def test_what_it_did_is_cached_and_found_by_others(given: Builds) -> None:
    given.ok()
    assert cached(given.ok(f"{TEXT}RUN cat /deep/er/f /file > /both\n")) == 8
    assert given.sh("cat /both; ls -ln /bin/f").split()[:5] == [
        "xcontent-rw-r--r--", "1", "5", "6", "7",
    ]  # fmt: skip


def test_a_copy_that_fails_in_it_leaves_its_container(given: Builds) -> None:
    said = given.fails("FROM busy:1\nCOPY f /kept\nCOPY --chown=nobody-here f /x\n")
    assert "step 3/3 failed" in said and "nobody-here" in said
    name = given.containers.ok("ps", "-aq")
    assert given.containers.ok("diff", name).splitlines() == ["A /kept"]
    given.containers.ok("rm", name)
    assert mounted(given) == []


def test_it_is_for_root_and_a_page_of_options(monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    assert is_possible([Path("/x")])
    assert not is_possible([Path("/x")] * MOST_LOWERS)
    monkeypatch.setattr("mount_tools.build.kernel_stage.is_machine_root", lambda: False)
    assert not is_possible([Path("/x")])
