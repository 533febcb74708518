"""COPY, ADD and WORKDIR in a stage."""

from __future__ import annotations

import tarfile

from tests.helpers.builds import Builds


def test_files_are_copied_into_the_mounted_stage(builds: Builds) -> None:
    builds.write(
        "FROM busy:1\nWORKDIR deep/er\nWORKDIR down\nCOPY --chown=bob:wheel --chmod=640 f g/\n"
        "COPY . all/\nRUN ls -ln g > /listed\n",
        f="1",
        g="2",
    )
    (builds.context / "link").symlink_to("f")
    builds.ok()
    assert builds.content("/listed").split()[2:6] == ["-rw-r-----", "1", "1000", "10"]
    assert builds.sh("cd /deep/er/down/all; cat g; ls -l link").startswith("2l")
    assert builds.sh("pwd") == "/deep/er/down"


def test_an_archive_is_unpacked(builds: Builds) -> None:
    builds.write("FROM busy:1\nADD a.tar /into/\nADD f /into/\n", f="x")
    with tarfile.open(builds.context / "a.tar", "w") as tar:
        tar.add(builds.context / "f", "dir/inside")
    builds.ok()
    assert builds.content("/into/dir/inside", "/into/f") == "xx"


def test_a_file_of_the_host_that_a_run_is_shown_is_not_what_a_copy_writes_to(
    builds: Builds,
) -> None:
    builds.write("FROM busy:1\nRUN echo > /first\nCOPY f /etc/resolv.conf\n", f="ours")
    builds.ok()
    assert (builds.layers()[0] / "etc/resolv.conf").read_text() == "ours"


def test_a_directory_that_is_there_makes_no_layer(builds: Builds) -> None:
    builds.ok("FROM busy:1\nWORKDIR /tmp\n")
    assert len(builds.layers()) == 1
