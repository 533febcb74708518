"""mount.pyunion as a program: exit statuses, one line on stderr, and no trace of a failure."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from mount_tools.helper import main as mount_helper
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import (
    DEADLINE,
    helper_command,
    helper_environment,
    layer_options,
    mount_type,
    require_fuse,
    require_root,
    run,
    unmount_command,
    wait_until,
)
from tests.helpers.processes import end


def helper(*arguments: str | bytes | Path) -> subprocess.CompletedProcess[bytes]:
    return run(*helper_command(*arguments), env=helper_environment(), check=False)


def test_help_that_cannot_be_written_is_an_error() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            helper_command("--help"),
            env=helper_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    said = b"mount.pyunion: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


def refused(layers: MountLayers, *arguments: str | bytes | Path) -> str:
    """Run the helper, which must fail in one line and change nothing; return that line."""
    before = layers.stats()
    done = helper(*arguments)
    said = done.stderr.decode(errors="surrogateescape")
    assert done.returncode in (1, 32), said
    assert done.stdout == b""
    assert re.fullmatch(r"mount\.pyunion: [^\n]+\n", said), said
    assert mount_type(layers.merged) is None
    assert layers.stats() == before
    return said


# -- before anything is touched --


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ([], 1, "no directory to mount on"),
        (["/mnt"], 1, "no layer to mount"),
        (["-x", "/mnt"], 1, "-x"),
        (["-o", "lowerdir=/a,upperdri=/b", "/mnt"], 1, "did you mean 'upperdir'"),
        (["-o", "lowerdir=/a", "/mnt\n/x"], 32, "does not exist"),
    ],
)
def test_bad_usage(
    words: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mount_helper.main([*words, "--fake"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mount.pyunion: ")
    assert err.count("\n") == 1
    assert says in err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert mount_helper.main(["--help"]) == 0
    assert "lowerdir=A:B:C" in capsys.readouterr().out
    assert mount_helper.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mount.pyunion ")


def test_nobody_reads_what_is_printed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        for word in ("--help", "--nonsense"):
            done = subprocess.run(
                helper_command(word),
                env=helper_environment(),
                stdout=writer if word == "--help" else subprocess.PIPE,
                stderr=writer if word != "--help" else subprocess.PIPE,
                timeout=DEADLINE,
                check=False,
            )
            assert done.returncode == (2 if word == "--help" else 1)
            assert not done.stdout
            assert not done.stderr
    finally:
        os.close(writer)


def test_a_bug_is_one_line_and_status_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(words: object, **_: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(mount_helper, "parse_call", broken)
    assert mount_helper.main(["/mnt"]) == 4
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "ZeroDivisionError: two lines" in err


def test_ctrl_c_is_status_8(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(words: object, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mount_helper, "parse_call", interrupted)
    assert mount_helper.main(["/mnt"]) == 8
    assert capsys.readouterr().err == "mount.pyunion: interrupted\n"


def test_fake_checks_and_does_nothing(layers: MountLayers) -> None:
    before = layers.stats()
    assert mount_helper.main(["spec", str(layers.merged), "-f", "-o", layers.words]) == 0
    assert mount_helper.main(["-o", layers.words, "--fake", str(layers.merged)]) == 0
    assert mount_type(layers.merged) is None
    assert layers.stats() == before


# -- refusals of the daemon --


def test_mount_points_that_cannot_be(layers: MountLayers) -> None:
    assert "mkdir -p" in refused(layers, "-o", layers.words, layers.base / "absent")
    assert "not a directory" in refused(layers, "-o", layers.words, layers.low / "from-low")
    assert "not a directory" in refused(layers, "-o", layers.words, layers.low / "from-low" / "x")
    (layers.base / "loop").symlink_to("loop")
    assert "cannot be used" in refused(layers, "-o", layers.words, layers.base / "loop")
    assert "cannot be used" in refused(layers, "-o", layers.words, layers.base / ("x" * 300))


def test_layers_that_cannot_be(layers: MountLayers) -> None:
    words = layers.words
    absent, file = layers.base / "absent", layers.low / "from-low"
    for old, new in [
        (layers.low, absent),
        (layers.low, file),
        (layers.upper, absent),
        (layers.upper, file),
        (layers.work, absent),
        (layers.work, file),
        (layers.upper, layers.work),
        (layers.work, layers.upper),
        (layers.work, Path("/proc")),
    ]:
        refused(layers, "-o", words.replace(str(old), str(new)), layers.merged)
    nested = layers.upper / "nested"
    nested.mkdir()
    refused(layers, "-o", words.replace(str(layers.work), str(nested)), layers.merged)


def test_layers_and_the_mount_point_inside_one_another(layers: MountLayers) -> None:
    words = layers.words
    inside = layers.low / "inside"
    inside.mkdir()
    assert "contain itself" in refused(layers, "-o", words, inside)
    assert "beneath the mount point" in refused(layers, "-o", words, layers.base)
    assert "beneath the mount point" in refused(layers, "-o", words, layers.upper)


def test_paths_that_no_terminal_can_show(layers: MountLayers) -> None:
    odd = os.fsencode(layers.base) + b"/\xff\n\x1b[31m"
    said = refused(layers, b"-o", os.fsencode(layers.words).replace(b"/low", b"/" + odd), odd)
    assert "does not exist" in said


def test_a_second_mount_of_one_upper(layers: MountLayers, tmp_path: Path) -> None:
    require_fuse()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert helper("-o", layers.words, layers.merged).returncode == 0
    try:
        done = helper("-o", layers.words, elsewhere)
        assert done.returncode == 32
        assert done.stderr.count(b"\n") == 1
        assert mount_type(elsewhere) is None
    finally:
        run(*unmount_command(), layers.merged)


def test_no_fuse_device(layers: MountLayers) -> None:
    require_root()
    command = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/fuse && exec "$@"']
    done = run(
        *command,
        "sh",
        *helper_command("-o", layers.words, layers.merged),
        env=helper_environment(),
        check=False,
    )
    # /dev/null opens, but is no FUSE connection.
    assert done.returncode == 32
    assert done.stderr.startswith(b"mount.pyunion: the kernel refused to mount")


def test_without_privilege_to_mount(layers: MountLayers) -> None:
    require_root()
    done = run(
        *("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"),
        *helper_command("-o", layers.words, layers.merged),
        env=helper_environment(),
        check=False,
    )
    assert done.returncode == 32
    assert b"CAP_SYS_ADMIN" in done.stderr


# -- it works --


def test_the_command_returns_when_the_mount_is_live(layers: MountLayers) -> None:
    require_fuse()
    log = layers.base / "log"
    done = helper("-v", "-o", layers.words + f",log={log}", "the spec", layers.merged)
    try:
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == f"mount.pyunion: the spec mounted on {layers.merged}.\n".encode()
        assert mount_type(layers.merged) == "fuse.pyunion"
        assert (layers.merged / "from-high").read_text() == "high\n"
        assert (layers.merged / "from-low").read_text() == "low\n"
        assert b"\0the spec\0" in b"\0".join(Path("/proc/mounts").read_bytes().split(b" ")).replace(
            b"\\040", b" "
        ).replace(b"\n", b"\0")
    finally:
        run(*unmount_command(), layers.merged)
    wait_until(lambda: "unmounted from" in log.read_text(), "the daemon to end")
    assert "ERROR" not in log.read_text()


def test_stderr_is_at_its_end_when_the_command_returns(layers: MountLayers) -> None:
    require_fuse()
    process = subprocess.Popen(
        helper_command("-o", layers.words, layers.merged),
        env=helper_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        # communicate() returns at the end of both pipes: the daemon holds neither.
        assert process.communicate(timeout=DEADLINE) == (b"", b"")
        assert process.returncode == 0
        assert mount_type(layers.merged) == "fuse.pyunion"
    finally:
        end(process)
        run(*unmount_command(), layers.merged)


def test_descriptors_of_the_caller_are_not_kept(layers: MountLayers) -> None:
    require_fuse()
    ours, theirs = os.pipe()
    try:
        done = subprocess.run(
            helper_command("-o", layers.words, layers.merged),
            env=helper_environment(),
            pass_fds=(theirs,),
            timeout=DEADLINE,
            check=False,
        )
        os.close(theirs)
        assert done.returncode == 0
        assert os.read(ours, 1) == b""  # end of file: nobody holds the other end
    finally:
        os.close(ours)
        run(*unmount_command(), layers.merged)


def test_started_with_stdio_closed(layers: MountLayers) -> None:
    require_fuse()
    run(
        *("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"),
        *helper_command("-o", layers.words, layers.merged),
        env=helper_environment(),
    )
    try:
        assert (layers.merged / "from-low").read_text() == "low\n"
    finally:
        run(*unmount_command(), layers.merged)


def test_relative_paths_mean_the_callers_directory(layers: MountLayers) -> None:
    require_fuse()
    run(
        *helper_command(
            "-o", "lowerdir=lower0:lower1,upperdir=upper,workdir=work,log=log", "merged"
        ),
        env=helper_environment(),
        cwd=layers.base,
    )
    try:
        (layers.merged / "new").write_text("new\n")
        assert (layers.upper / "new").read_text() == "new\n"
    finally:
        run(*unmount_command(), layers.merged)
    wait_until(lambda: "unmounted" in (layers.base / "log").read_text(), "the daemon to end")


def test_over_a_lower_layer(layers: MountLayers) -> None:
    require_fuse()
    words = os.fsdecode(layers.words)
    run(*helper_command("-o", words, layers.low), env=helper_environment())
    try:
        (layers.low / "new").write_text("new\n")
        assert sorted(os.listdir(layers.low)) == ["from-high", "from-low", "gone", "new"]
    finally:
        run(*unmount_command(), layers.low)
    assert sorted(os.listdir(layers.low)) == ["from-low", "gone"]


def test_500_lowers_and_long_option_strings(layers: MountLayers) -> None:
    require_fuse()
    many = layers.base / ("long-name-" * 12)
    for number in range(500):
        (many / f"{number:03}").mkdir(parents=True)
        (many / f"{number:03}" / f"file-{number:03}").touch()
    lowers = ":".join(str(many / f"{number:03}") for number in range(500))
    assert len(lowers) > 16 * 4096
    options = f"lowerdir={lowers},upperdir={layers.upper},workdir={layers.work}"
    run(*helper_command("-o", options, layers.merged), env=helper_environment())
    try:
        assert len(os.listdir(layers.merged)) == 500
        (layers.merged / "file-499").write_text("copied up\n")
        assert (layers.upper / "file-499").read_text() == "copied up\n"
    finally:
        run(*unmount_command(), layers.merged)


def test_odd_names_of_layers_and_specs(layers: MountLayers) -> None:
    require_fuse()
    odd = layers.base / 'a:b,c\\d"e é\n'
    odd.mkdir()
    (odd / "odd").touch()
    options = layer_options([odd, layers.low], layers.upper, layers.work)
    spec = b'sp,ec\\ "\xff'
    done = run(*helper_command(spec, layers.merged, "-v", "-o", options), env=helper_environment())
    assert done.stdout.startswith(b'mount.pyunion: sp,ec\\ "\\udcff mounted on ')
    try:
        assert (layers.merged / "odd").exists()
    finally:
        run(*unmount_command(), layers.merged)


def test_by_the_name_of_fuse_overlayfs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/fuse-overlayfs"])
    assert mount_helper.main(["--version"]) == 0
    assert re.fullmatch(r"fuse-overlayfs: version \S.*\(PyUnion\)\n", capsys.readouterr().out)
    assert mount_helper.main(["-o", "rw", "/mnt"]) == 1
    assert capsys.readouterr().err.startswith("fuse-overlayfs: there is no layer to mount")


def test_an_engine_hears_nothing_of_words_without_effect(layers: MountLayers) -> None:
    require_fuse()
    log = layers.base / "log"
    done = helper("-o", f"{layers.words},,max_threads=3,Z,uidmapping=,log={log}", layers.merged)
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert (layers.merged / "from-high").read_text() == "high\n"
    finally:
        run(*unmount_command(), layers.merged)
    warnings = [line for line in log.read_text().splitlines() if "without effect" in line]
    assert len(warnings) == 1 and warnings[0].endswith("max_threads=3, Z")
