"""COPY: where each source goes and what it is there, as docker 20.10 made it.

The trees expected below are those that docker's classic builder made of the same file and
context.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from layerstore.build.copying import Copier, place_of
from layerstore.build.destination import Destination
from layerstore.build.source_digest import Digester
from layerstore.build.sources import digest_sources, find_sources
from layerstore.build.tree import Tree
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import Copy
from layerstore.containerfile.parse import parse
from layerstore.errors import StoreError
from layerstore.layer.metadata import Metadata
from tests.layerstore.build.mini_build import build, listing, written

PRIVILEGED = os.geteuid() == 0
FILES: dict[str, str | None] = {
    "a.txt": "a",
    "b.txt": "b",
    "d/x": "x",
    "d/sub/y": "y",
    "d/lx": "->x",
    "d/broken": "->nope",
    "la": "->a.txt",
    "ld": "->d",
    "empty": None,
    "tree/run": None,
    "tree/var/run": "->/run",
    "tree/dang": "->/nowhere/x",
    "tree/esc": "->../../../../../run",
    "tree/fl": "->run/file",
    "tree/loop": "->loop",
    "t2/var/run/pid": "1",
}
D = "broken lx sub sub/y x"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return written(tmp_path / "context", FILES)


def beneath(prefix: str, names: str = D) -> str:
    return " ".join([prefix, *(f"{prefix}/{name}" for name in names.split())])


@pytest.mark.parametrize(
    ("lines", "paths"),
    [
        ("COPY a.txt /f", "f"),
        ("COPY a.txt /n/m/", "n n/m n/m/a.txt"),
        ("COPY a.txt /n/m/f", "n n/m n/m/f"),
        ("COPY a.txt /", "a.txt"),
        ("COPY d /d\nCOPY a.txt /d", beneath("d", f"a.txt {D}")),
        ("COPY d /d\nCOPY d /d", beneath("d")),
        ("COPY d /e/\nCOPY d/sub /e", beneath("e", f"{D} y")),
        ("COPY d/. /e", beneath("e")),
        ("COPY la /", "la"),
        ("COPY ld /e/", beneath("e")),
        ("COPY a.txt b.txt d /s/", beneath("s", f"a.txt b.txt {D}")),
        ("COPY [ab].txt /w/", "w w/a.txt w/b.txt"),
        ("COPY d/*/y /w/", "w w/y"),
        ("COPY empty /e", "e"),
        ("COPY ld/lx /f", "f"),
        ("COPY d//sub///y //z//f", "z z/f"),
        ("COPY a.txt /p\nCOPY b.txt /p", "p"),
        ("WORKDIR /w/v\nCOPY a.txt .\nCOPY a.txt sub/", "w w/v w/v/a.txt w/v/sub w/v/sub/a.txt"),
        ("WORKDIR /w/v\nCOPY a.txt ../\nCOPY a.txt ../x", "w w/a.txt w/v w/x"),
        ("WORKDIR /q\nCOPY a.txt b.txt ./", "q q/a.txt q/b.txt"),
        ("ENV S=a.txt D=/dd/\nCOPY $S ${D}", "dd dd/a.txt"),
        ("COPY d /real\nCOPY a.txt /real/lx", beneath("real")),
    ],
)
def test_where_sources_go(tmp_path: Path, context: Path, lines: str, paths: str) -> None:
    root = build(f"FROM scratch\n{lines}", context, tmp_path).root
    assert list(listing(root)) == sorted(paths.split())


TREE = "dang esc fl loop run var var/run"


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("COPY a.txt /var/run/", "run/a.txt"),
        ("COPY a.txt /var/run/f", "run/f"),
        ("COPY a.txt /dang/", "nowhere nowhere/x nowhere/x/a.txt"),
        ("COPY a.txt /dang", "nowhere nowhere/x"),
        ("COPY d /dang", f"nowhere {beneath('nowhere/x')}"),
        ("COPY a.txt /esc/", "run/a.txt"),
        ("COPY d /esc/x", beneath("run/x")),
        ("COPY a.txt /fl", "run/file"),
        ("COPY d /fl", beneath("run/file")),
    ],
)
def test_links_of_the_image_are_followed_within_it(
    tmp_path: Path, context: Path, line: str, new: str
) -> None:
    root = build(f"FROM scratch\nCOPY tree /\n{line}", context, tmp_path).root
    assert list(listing(root)) == sorted([*TREE.split(), *new.split()])


def test_a_directory_takes_the_place_of_a_link_beneath_the_destination(
    tmp_path: Path, context: Path
) -> None:
    root = build("FROM scratch\nCOPY tree /\nCOPY t2 /", context, tmp_path).root
    assert not (root / "var/run").is_symlink()
    assert (root / "var/run/pid").read_text() == "1"


def test_a_file_and_a_directory_take_each_others_place(tmp_path: Path, context: Path) -> None:
    root = build("FROM scratch\nCOPY d /t/x\nCOPY d /t", context, tmp_path).root
    assert (root / "t/x").read_text() == "x"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("COPY a.txt /p\nCOPY d /p", "/p in the image cannot be written: Not a directory"),
        ("COPY a.txt /p\nCOPY a.txt /p/q", "/p/q in the image cannot be written: Not a directory"),
        ("COPY a.txt /p\nCOPY b.txt /p/", "/p/ in the image cannot be written: Not a directory"),
        ("COPY tree /\nCOPY a.txt /loop", "/loop in the image cannot be written: Too many levels"),
    ],
)
def test_what_is_refused(tmp_path: Path, context: Path, lines: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        build(f"FROM scratch\n{lines}", context, tmp_path)


def test_content_links_modes_and_times_are_the_sources(tmp_path: Path, context: Path) -> None:
    os.chmod(context / "a.txt", 0o640)
    os.chmod(context / "d", 0o711)
    os.chmod(context / "d/sub", 0o1777)
    for path in ("a.txt", "d/sub/y", "d/sub", "d/x", "d"):
        os.utime(context / path, ns=(1, 1_000_000_000_123_456_789))
    os.utime(context / "d/lx", ns=(1, 7), follow_symlinks=False)
    root = build("FROM scratch\nCOPY . /e", context, tmp_path).root / "e"
    for path in ("a.txt", "d/sub/y", "d/sub", "d/x", "d", "d/lx"):
        made, was = os.lstat(root / path), os.lstat(context / path)
        assert (made.st_mode, made.st_mtime_ns) == (was.st_mode, was.st_mtime_ns), path
    assert os.readlink(root / "d/lx") == "x"
    assert (root / "a.txt").read_text() == "a"


def test_names_of_one_file_stay_one_file(tmp_path: Path, context: Path) -> None:
    os.link(context / "d/x", context / "d/sub/x2")
    root = build("FROM scratch\nCOPY d /e", context, tmp_path).root
    assert os.path.samefile(root / "e/x", root / "e/sub/x2")


def test_holes_stay_holes(tmp_path: Path, context: Path) -> None:
    with (context / "sparse").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"x")
    root = build("FROM scratch\nCOPY sparse /", context, tmp_path).root
    st = os.stat(root / "sparse")
    assert (st.st_size, st.st_blocks < 64) == (64 << 20, True)
    with (root / "sparse").open("rb") as file:
        file.seek(32 << 20)
        assert file.read(2) == b"x\0"


@pytest.mark.skipif(not PRIVILEGED, reason="gives files to others")
class TestOwners:
    def test_files_of_a_context_belong_to_root(self, tmp_path: Path, context: Path) -> None:
        os.chown(context / "a.txt", 5, 6)
        root = build("FROM scratch\nCOPY a.txt /", context, tmp_path).root
        assert os.stat(root / "a.txt").st_uid == 0

    def test_chown_is_for_what_is_new(self, tmp_path: Path, context: Path) -> None:
        text = "FROM scratch\nCOPY empty /c\nCOPY --chown=7:8 d /c\nCOPY --chown=7:8 d /n/e"
        root = build(text, context, tmp_path).root
        owners = {path: text.split()[1] for path, text in listing(root).items()}
        assert owners.pop("c") == "0:0"  # as it was
        assert set(owners.values()) == {"7:8"}
        assert {"n", "n/e", "c/lx"} <= owners.keys()

    def test_files_of_a_stage_keep_their_owner(self, tmp_path: Path, context: Path) -> None:
        text = (
            "FROM scratch\nCOPY --chown=7:8 d /s\nFROM scratch\nCOPY --from=0 /s /t\n"
            "COPY --from=0 --chown=9 /s /u"
        )
        root = build(text, context, tmp_path).root
        owners = {path: text.split()[1] for path, text in listing(root).items()}
        assert owners["t/x"] == owners["t/lx"] == "7:8"
        assert owners["t"] == "0:0"
        assert owners["u/x"] == owners["u"] == "9:9"

    def test_names_are_the_images(self, tmp_path: Path, context: Path) -> None:
        written(context, {"etc/passwd": "me:x:77:88::/:\n", "etc/group": "me:x:99:\n"})
        text = "FROM scratch\nCOPY etc /etc\nCOPY --chown=me a.txt /"
        root = build(text, context, tmp_path).root
        assert listing(root)["a.txt"].split()[1] == "77:99"

    def test_suid_goes_with_the_owner(self, tmp_path: Path, context: Path) -> None:
        os.chmod(context / "a.txt", 0o6755)
        text = (
            "FROM scratch\nCOPY a.txt /\nCOPY --chmod=4755 a.txt /b\nFROM scratch\n"
            "COPY --from=0 / /k\nCOPY --from=0 --chown=1 /b /l"
        )
        root = build(text, context, tmp_path).root
        modes = {path: text.split()[0] for path, text in listing(root).items()}
        assert modes == {
            "k": "drwxr-xr-x",
            "k/a.txt": "-rwxr-xr-x",
            "k/b": "-rwsr-xr-x",
            "l": "-rwxr-xr-x",
        }

    def test_devices_are_made_and_never_opened(self, tmp_path: Path, context: Path) -> None:
        os.mknod(context / "d/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        root = build("FROM scratch\nCOPY d /e", context, tmp_path).root
        st = os.stat(root / "e/null")
        assert (stat.S_ISCHR(st.st_mode), st.st_rdev) == (True, os.makedev(1, 3))

    def test_a_capability_is_kept(self, tmp_path: Path, context: Path) -> None:
        value = bytes.fromhex("0100000200040000000000000000000000000000")
        os.setxattr(context / "a.txt", "security.capability", value)
        os.setxattr(context / "a.txt", "user.mine", b"x")
        root = build("FROM scratch\nCOPY a.txt /", context, tmp_path).root
        assert os.listxattr(root / "a.txt") == ["security.capability"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_the_umask_does_not_count(tmp_path: Path, context: Path, umask: int) -> None:
    modes = {"a.txt": 0o666, "b.txt": 0o755, "d/x": 0o640}
    for path, mode in modes.items():
        os.chmod(context / path, mode)
    before = os.umask(umask)
    try:
        root = build("FROM scratch\nCOPY . /e\nCOPY <<E /doc\nE", context, tmp_path).root
    finally:
        os.umask(before)
    for path, mode in {**modes, "../doc": 0o644}.items():
        assert stat.S_IMODE(os.stat(root / "e" / path).st_mode) == mode, path


def test_chmod(tmp_path: Path, context: Path) -> None:
    text = (
        "FROM scratch\nCOPY --chmod=700 d /e\nCOPY --chmod=u=rwX,go=rX d /f\n"
        "COPY --chmod=0600 a.txt /n/a\nCOPY --chmod=666 <<E /doc\nhi\nE"
    )
    root = build(text, context, tmp_path).root
    modes = {path: text.split()[0] for path, text in listing(root).items()}
    assert (modes["e"], modes["e/x"], modes["e/sub"]) == ("drwx------", "-rwx------", "drwx------")
    assert (modes["f"], modes["f/x"], modes["f/sub"]) == ("drwxr-xr-x", "-rw-r--r--", "drwxr-xr-x")
    assert (modes["n"], modes["n/a"]) == ("drwxr-xr-x", "-rw-------")
    assert modes["e/lx"] == "lrwxrwxrwx"
    assert modes["doc"] == "-rw-rw-rw-"


def test_heredocs(tmp_path: Path, context: Path) -> None:
    text = (
        "FROM scratch\nARG V=1\nCOPY <<A <<'B' /d/\n$V\nA\n$V\nB\nCOPY <<C /c\nC\nCOPY <<E /d/\nE"
    )
    root = build(text, context, tmp_path).root
    assert (root / "d/A").read_text() == "1\n"
    assert (root / "d/B").read_text() == "$V\n"
    assert (root / "c").read_text() == ""
    assert listing(root)["d/E"].startswith("-rw-r--r--")


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("COPY --parents d/sub/y /", "d d/sub d/sub/y"),
        ("COPY --parents ./d/./sub/y /o/", "o o/sub o/sub/y"),
        ("COPY --parents d/sub t2/var/run/pid /o/",
         "o o/d o/d/sub o/d/sub/y o/t2 o/t2/var o/t2/var/run o/t2/var/run/pid"),
        ("COPY --parents **/y **/pid /o/",
         "o o/d o/d/sub o/d/sub/y o/t2 o/t2/var o/t2/var/run o/t2/var/run/pid"),
        ("COPY --exclude=sub --exclude=l* --exclude=b* d /o", "o o/x"),
        ("COPY --exclude=* d /o", "o"),
    ],
)  # fmt: skip
def test_parents_and_exclude(tmp_path: Path, context: Path, line: str, paths: str) -> None:
    os.chmod(context / "d", 0o700)
    root = build(f"FROM scratch\n{line}", context, tmp_path).root
    found = listing(root)
    assert list(found) == sorted(paths.split())
    if "d" in found:
        assert found["d"].startswith("drwx------")


BUILDKITS: dict[str, str | None] = {
    f"test/a/{path}": ""
    for path in ("b/c/d/foo", "b/c/d/e/bay", "b2/c/d/e/bar", "b/c2/d/e/baz", "b/c2/d/e2/baz")
}


@pytest.mark.parametrize(
    ("words", "there", "missing"),
    [
        ("/test/a/b/./c/d", "c/d/e c/d/foo", "a e"),
        ("/test/a/b/c/d/.", "test/a/b/c/d/e test/a/b/c/d/foo", "e"),
        ("./test/a/b/c/d", "test/a/b/c/d/e test/a/b/c/d/foo", "e a"),
        ("/test/a/./b/./c", "b/c/d/e b/c/d/foo", "a"),
        ("/test/a/./*/c", "b/c/d/e b2/c/d/e/bar", "a"),
        ("/test/a/b*/./c/**/e", "c/d/e c/d/e/bay c/d/e/bar", "a"),
        ("/test/a/b/c*/./d/**/baz /test/a/b*/./c/**/bar", "d/e/baz d/e2/baz c/d/e/bar", "d/e/bay"),
        ("/test/a/b3*/c", ".", "test a"),
        ("/test/a/b/./c3*", ".", "a c3"),
        ("/test/a/x*/./c", ".", "c"),
    ],
)
def test_parents_as_buildkit_has_it(tmp_path: Path, words: str, there: str, missing: str) -> None:
    context = written(tmp_path / "context", BUILDKITS)
    root = build(f"FROM scratch\nCOPY --parents {words} /out/", context, tmp_path).root / "out"
    assert all((root / path).exists() for path in there.split())
    assert not any((root / path).exists() for path in missing.split())


def test_parents_that_are_missing(tmp_path: Path) -> None:
    context = written(tmp_path / "context", BUILDKITS)
    with pytest.raises(ContainerfileError, match="file not found in build context"):
        build("FROM scratch\nCOPY --parents /test/no /out/", context, tmp_path)


IMAGES: dict[str, str | None] = {
    "dir1/file-101.png": "",
    "dir1/file-102.txt": "",
    "dir1/file-103.jpeg": "",
    "dir2/file-201.pdf": "",
    "dir2/file-202.jpeg": "",
    "dir2/file-203.png": "",
    "dir3/file-301.mp3": "",
    "dir3/file-302.mpeg": "",
    "dir4/file-401.txt": "",
    "dir4/file-402.txt": "->file-401.txt",
    "dir4/file-403.txt": "->file-404.txt",
}


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("COPY --exclude=*/*.png --exclude=*/*.jpeg . /o", "102 201 301 302 401 402 403"),
        ("COPY --exclude=*/*.pdf --exclude=*/*.txt . /o", "101 103 202 203 301 302"),
        ("ADD --exclude=*.mp3 dir3/ /o/", "302"),
        (
            "COPY --exclude=*.mp3 --exclude=*.jpeg --exclude=*.png --exclude=*.pdf"
            " --exclude=*.txt dir* /o/",
            "302",
        ),
        (
            "ADD --exclude=*.mp* --exclude=*.jpeg --exclude=*.png --exclude=*.pdf dir* /o/",
            "102 401 402 403",
        ),
        ("ADD --exclude=* dir* /o/", ""),
    ],
)
def test_exclude_as_buildkit_has_it(tmp_path: Path, line: str, kept: str) -> None:
    context = written(tmp_path / "context", IMAGES)
    root = build(f"FROM scratch\n{line}", context, tmp_path).root
    found = sorted(path.name[5:8] for path in (root / "o").rglob("file-*"))
    assert found == kept.split()


def test_sockets_are_left_out_and_said(tmp_path: Path, context: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(context / "d/sock"))
    sock.close()
    os.mkfifo(context / "d/fifo")
    copier = by_hand(context, tmp_path / "root", "COPY d /e")
    assert copier.skipped == ["d/sock"]
    assert stat.S_ISFIFO(os.stat(tmp_path / "root/e/fifo").st_mode)


def by_hand(context: Path, root: Path, line: str, between: object = None) -> Copier:
    """Carry out a COPY; `between` is called after its digest was computed."""
    root.mkdir()
    one = parse(f"FROM x\n{line}").instructions[1]
    assert isinstance(one, Copy)
    source_fd = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = Tree(source_fd)
        sources = find_sources(one, tree)
        _, _, seen = digest_sources(sources, Digester(tree))
        if callable(between):
            between()
        copier = Copier(Destination(root_fd, Metadata(privileged=PRIVILEGED)))
        copier.copy(one, sources, seen, "/")
        return copier
    finally:
        os.close(source_fd)
        os.close(root_fd)


@pytest.mark.parametrize(
    ("how", "named"),
    [
        (lambda c: (c / "d/x").write_text("other"), "d/x"),
        (lambda c: (c / "d/new").write_text(""), "d/new"),
        (lambda c: (c / "d/x").unlink(), "lost files"),
        (lambda c: os.chmod(c / "d/x", 0o600), "d/x"),
        (lambda c: os.replace(c / "a.txt", c / "d/x"), "d/x"),
        (lambda c: os.replace(c / "la", c / "d/lx"), "d/lx"),
    ],
)
def test_a_source_that_changes_after_its_digest_is_refused(
    tmp_path: Path, context: Path, how: object, named: str
) -> None:
    assert callable(how)
    with pytest.raises(StoreError, match=f"{named}.* while it was read"):
        by_hand(context, tmp_path / "root", "COPY d /e", lambda: how(context))


def test_a_file_that_is_ignored_may_change(tmp_path: Path, context: Path) -> None:
    by_hand(
        context,
        tmp_path / "root",
        "COPY --exclude=x d /e",
        lambda: (context / "d/x").write_text("other"),
    )
    assert not (tmp_path / "root/e/x").exists()


def test_odd_names(tmp_path: Path, context: Path) -> None:
    names = [b"new\nline", b"bad\xff", b"-x", b"a\\b", b"sp ace"]
    for name in names:
        (context / "d" / os.fsdecode(name)).write_bytes(name)
    root = build("FROM scratch\nCOPY d /e", context, tmp_path).root
    for name in names:
        assert (root / "e" / os.fsdecode(name)).read_bytes() == name


def test_links_out_of_the_context_are_copied_and_not_followed(
    tmp_path: Path, context: Path
) -> None:
    (context / "d/out").symlink_to("/etc/passwd")
    root = build("FROM scratch\nCOPY d /e", context, tmp_path).root
    assert os.readlink(root / "e/out") == "/etc/passwd"
    with pytest.raises(ContainerfileError, match="file not found in build context"):
        build("FROM scratch\nCOPY d/out /e", context, written(tmp_path / "w", {}))


@pytest.mark.parametrize(
    ("workdir", "destination", "place"),
    [
        ("/", "/a", "/a"),
        ("/", "/a/", "/a/"),
        ("/w", "a", "/w/a"),
        ("/w", ".", "/w/"),
        ("/w", "./", "/w/"),
        ("/w/v", "..", "/w/"),
        ("/w", "/", "/"),
        ("/w", "//a//b//", "/a/b/"),
        ("/w", "../../..", "/"),
    ],
)
def test_place(workdir: str, destination: str, place: str) -> None:
    one = parse(f"FROM x\nCOPY a {destination}").instructions[1]
    assert isinstance(one, Copy)
    assert place_of(one, workdir) == place


def test_many_files_in_little_memory_and_few_descriptors(tmp_path: Path) -> None:
    context = tmp_path / "many"
    for directory in range(20):
        (context / str(directory)).mkdir(parents=True)
        for number in range(100):
            (context / str(directory) / str(number)).touch()
    before = len(os.listdir("/proc/self/fd"))
    by_hand(context, tmp_path / "root", "COPY . /")
    assert len(os.listdir("/proc/self/fd")) == before
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "root")) == 2000


@pytest.mark.parametrize("name", ["../out", "../../out", "{}/out", "d/out", "..", "."])
@pytest.mark.parametrize("words", ["COPY", "ADD --chmod=4755 --chown=0:0"])
def test_a_heredoc_is_written_nowhere_but_into_the_image(
    tmp_path: Path, context: Path, name: str, words: str
) -> None:
    """The name is a stranger's, and the build is root's."""
    name = name.format(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.name == "out"}
    text = f"FROM scratch\nCOPY d /dst/d\n{words} <<{name} /dst/\nevil\n{name}"
    with pytest.raises(ContainerfileError, match="is no name that a file can have"):
        build(text, context, tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.name == "out"} == before
