"""Stages of root: the kernel's overlayfs makes the layers that we make."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.layer.index import IndexEntry, write_index
from layerstore.layers import Layer
from layerstore.oci.digest import Digest
from mount_tools.build import kernel_stage
from mount_tools.build.kernel_stage import MOST_LOWERS, has_whiteouts_of_aufs, is_possible
from mount_tools.build.stage_mount import Surface
from tests.helpers.builds import Builds, cached
from tests.helpers.core_driver import CoreDriver
from tests.helpers.mounts import require_root
from tests.helpers.stages import Ran, keep_open, run_stage, sh
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union

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
    # There may be too many layers for the kernel: then the stage is mounted by us.
    labels = "".join(f"LABEL l{number}=\n" for number in range(MOST_LOWERS))
    given.ok(TEXT + labels, "--no-cache")
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


COMMANDS = (
    "mkdir -p /d/sub && echo one > /d/f && ln -s f /d/link",
    "echo two >> /d/f; chmod 700 /d/sub; rm /d/link",
    "mv /d /moved; mkdir /d; echo new > /d/only",
    "rm -r /d; mkdir /d; mkfifo /d/pipe; chown 3:4 /d/pipe",
    "cat /etc/hosts /proc/self/status > /dev/null; test -c /dev/null; test -d /sys/kernel",
    "chmod 711 /; rm -r /moved",
    "echo kept > /etc/kept; touch -d @1000000 /etc",
)


def diff_ids(ran: Ran) -> list[str | None]:
    assert ran.broke is None and ran.output == b"", ran
    return [kept.diff_id for kept in ran.kept]


def test_commands_make_the_layers_that_they_make_in_our_mount(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = [sh(line) for line in COMMANDS]
    by_kernel = diff_ids(run_stage(store, works, newest_ns=2_000_000_000))
    monkeypatch.setattr("mount_tools.build.stage_mount.is_possible", lambda *_: False)
    assert by_kernel == diff_ids(run_stage(store, works, newest_ns=2_000_000_000))
    assert [made is None for made in by_kernel] == [False] * 4 + [True] + [False] * 2


def test_a_hard_link_is_as_in_docker(store: Store) -> None:
    """What is changed by one of its names in a later step is another file from then on."""
    require_root()
    works = [sh("echo 1 > /f; ln /f /g"), sh("echo 2 >> /f"), sh("cat /f /g")]
    assert run_stage(store, works).output.split() == [b"1", b"2", b"1"]


def test_a_command_sees_the_kernels_overlayfs(store: Store) -> None:
    require_root()
    ran = run_stage(store, [sh("grep ' / / ' /proc/self/mountinfo")])
    assert b" - overlay overlay " in ran.output


def test_mount_points_are_no_part_of_a_layer(store: Store) -> None:
    ran = run_stage(store, [sh("cat /etc/hosts > /dev/null; echo x > /etc/new"), sh("ls -d /etc")])
    with store.leases.lease("work", "test"):
        (top, *_) = store.layers.chain(ran.chain)
        assert os.listdir(top.diff) == ["etc"]
        assert os.listdir(top.diff / "etc") == ["new"]
    assert [kept.diff_id is None for kept in ran.kept] == [False, True]


@pytest.mark.parametrize("of_kernel", [True, False])
def test_the_umask_does_not_count(
    store: Store, monkeypatch: pytest.MonkeyPatch, umask_077: None, of_kernel: bool
) -> None:
    if not of_kernel:
        monkeypatch.setattr("mount_tools.build.stage_mount.is_possible", lambda *_: False)
    ran = run_stage(store, [sh("mkdir /made"), sh("cat /etc/hosts; ls -d /made/.", user="bob")])
    assert ran.broke is None and ran.output.endswith(b"build\n/made/.\n"), ran


@pytest.mark.parametrize("of_kernel", [True, False])
def test_mount_points_that_a_step_removes_do_not_come_into_a_layer(
    store: Store, monkeypatch: pytest.MonkeyPatch, of_kernel: bool
) -> None:
    if not of_kernel:
        monkeypatch.setattr("mount_tools.build.stage_mount.is_possible", lambda *_: False)
    works = [
        sh("mv /etc /moved; mkdir /etc; cat /moved/passwd > /etc/passwd"),
        sh("cat /etc/hosts /etc/hostname > /dev/null; echo x > /etc/kept"),
        sh("test -e /etc/hosts; mv /etc /gone"),
        sh("test -e /etc/hosts"),
    ]
    ran = run_stage(store, works)
    assert ran.broke is None and [kept.diff_id is None for kept in ran.kept] == [
        *(False, False, False),
        True,
    ], ran
    with store.leases.lease("work", "test"):
        (top, middle, *_) = store.layers.chain(ran.chain)
        assert sorted(os.listdir(middle.diff / "etc")) == ["kept"]
        assert stat.S_ISCHR((top.diff / "etc").lstat().st_mode)  # a whiteout
        assert os.listdir(top.diff / "gone") == []


def test_a_copy_does_not_see_the_mount_points_of_a_run(builds: Builds) -> None:
    """docker's does not either: they are in no layer."""
    (builds.context / "tree").mkdir()
    builds.write(
        "FROM scratch\nCOPY --from=busy:1 /bin /bin\nRUN test -e /etc/hosts\n"
        "COPY --chown=5:6 tree/f /etc/new\nRUN true\nCOPY tree /etc/hosts\n"
    )
    (builds.context / "tree/f").write_text("x")
    builds.ok()
    top, below = builds.layers()[:2]
    assert [os.listdir(top / "etc"), os.listdir(top / "etc/hosts")] == [["hosts"], ["f"]]
    assert os.listdir(below / "etc") == ["new"]
    # A directory that is made for a COPY belongs to the owner that --chown names.
    assert [(below / "etc").stat().st_uid, (below / "etc").stat().st_gid] == [5, 6]


def test_a_layer_that_cannot_be_made_leaves_its_files_in_the_container(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def mkdir(path: Path, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        if path.name == "fresh":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        make(path, mode, exist_ok=exist_ok)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    ran = run_stage(store, [sh("echo x > /f")])
    assert ran.broke is not None and ran.broke.text.endswith("No space left on device")
    assert (ran.container.upper / "f").read_text() == "x\n"
    assert list(ran.container.frozen()) == []


def test_a_name_that_means_a_whiteout_is_refused(builds: Builds) -> None:
    """The kernel makes it, but in an image it would remove another file."""
    said = builds.fails("FROM busy:1\nRUN touch /etc/.wh.passwd\nRUN true\n")
    assert "step 2/3 failed: “/etc/.wh.passwd” cannot be in a layer" in said, said
    said = builds.fails("FROM busy:1\nRUN mkdir /d /d/.wh..wh..opq\n")
    assert "“/d/.wh..wh..opq” cannot be in a layer" in said
    builds.ok("FROM busy:1\nRUN touch /.wh.file && rm /.wh.file\n")
    assert builds.content("file") == "of the image"


def test_a_container_that_was_mounted_with_metacopies_is_built_upon(builds: Builds) -> None:
    """An earlier version allowed that; the kernel would refuse to open the file."""
    require_root()
    builds.containers.ok("create", "--name", "box", "busy:1", "true")
    with Store.open(builds.containers.store, sync=False) as store:
        box = store.containers.resolve("box")
        config = UnionConfig(
            lowers=tuple(os.fsencode(layer) for layer in builds.layers("busy:1")),
            upper=os.fsencode(box.upper),
            work=os.fsencode(box.work),
            metacopy=True,
        )
        with closing(open_union(config)) as union:
            CoreDriver(union).chmod(b"file", 0o600)
        assert "trusted.overlay.metacopy" in os.listxattr(box.upper / "file")
    builds.containers.ok("commit", "box", "earlier:1")
    assert "trusted.overlay.metacopy" in os.listxattr(builds.layers("earlier:1")[0] / "file")
    builds.ok("FROM earlier:1\nRUN cat /file > /copied && chmod 604 /file\n")
    assert builds.content("copied") == "of the image"
    assert builds.content("file") == "of the image"


def test_what_the_kernel_refuses_at_once_is_mounted_by_us(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "not this upper")

    monkeypatch.setattr("mount_tools.build.kernel_stage.mount", refuse)
    ran = run_stage(store, [sh("echo x > /f"), sh("grep ' / / ' /proc/self/mountinfo")])
    assert b" - fuse.pyunion " in ran.output
    assert [kept.diff_id is None for kept in ran.kept] == [False, True]


def test_it_is_for_root_and_a_page_of_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_root()
    assert is_possible([tmp_path], 5)
    assert not is_possible([tmp_path], MOST_LOWERS)
    assert not is_possible([tmp_path] * MOST_LOWERS, 1)
    copied = made_layer(tmp_path / "copied", (("trusted.overlay.metacopy", b""),))
    moved = made_layer(tmp_path / "moved", (("trusted.overlay.redirect", b"/x"),))
    assert is_possible([moved], 5)
    assert not is_possible([moved, copied], 5)
    # In a user namespace nothing may be marked as the kernel does not follow it there.
    monkeypatch.setattr("mount_tools.build.kernel_stage.is_machine_root", lambda: False)
    layer = made_layer(tmp_path / "plain", ())
    assert is_possible([layer, tmp_path / "plain/diff/empty"], 5)
    for name in ("redirect", "metacopy", "whiteout"):
        marked = made_layer(tmp_path / name, ((f"user.overlay.{name}", b"x"),))
        assert not is_possible([layer, marked], 5)
    (tmp_path / "plain/index").unlink()
    assert not is_possible([layer], 5)
    monkeypatch.setattr("os.geteuid", lambda: 5)
    assert not is_possible([tmp_path / "plain/diff/empty"], 5)


@pytest.mark.parametrize(
    ("path", "found"), [(b"etc/.wh.passwd", True), (b".wh.etc", True), (b"etc/x.wh.y", False)]
)
def test_whiteouts_of_aufs_are_looked_for_in_the_layers_of_engines(
    tmp_path: Path, path: bytes, found: bool
) -> None:
    diff = made_layer(tmp_path / "made", (), path)
    digest = Digest.of_hex("0" * 64)
    layer = Layer(digest, None, digest, 0, diff.parent)
    assert not has_whiteouts_of_aufs(layer), "it is our own"
    diff.symlink_to(diff.rename(tmp_path / "of an engine"))
    assert has_whiteouts_of_aufs(layer) is found


def made_layer(place: Path, xattrs: tuple[tuple[str, bytes], ...], path: bytes = b"empty") -> Path:
    (place / "diff/empty").mkdir(parents=True)
    write_index(place / "index", [IndexEntry(path, 0o40755, 0, 0, 0, 0, xattrs=xattrs)])
    return place / "diff"


@pytest.mark.parametrize("line", ["echo x > /tmp/file", "true"], ids=["changed", "unchanged"])
def test_nobody_else_may_have_files_of_a_step_open(
    store: Store, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """A command can send a descriptor to a process outside, which could write to the layer."""
    require_root()
    monkeypatch.setattr(kernel_stage, "PATIENCE", 0.1)

    def sent(stage: Surface, output: int) -> None:
        sh(line)(stage, output)
        keep_open("tmp", os.O_RDONLY | os.O_DIRECTORY, stage.root)

    ran = run_stage(store, [sent, sh("true")])
    assert ran.broke is not None
    assert ran.broke.text.startswith("a process outside of the build has files of the step open")
    assert ran.kept == []


def test_only_the_packer_imports_the_union(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    """To import it takes a tenth of the processor time of a build with one step to do."""
    require_root()
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    builds.write("FROM busy:1\nRUN echo > /f\n")
    done = builds.containers("--no-sync", "build", str(builds.context))
    assert done.returncode == 0, done
    lines = [one for one in done.stderr.splitlines() if one.endswith(" unionfs.core.copy_up")]
    assert len(lines) == 1
