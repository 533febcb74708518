"""COPY, ADD and the configuration, beside docker's own builder: tree, history, config.

The same file and context go to docker 20.10's classic builder and to the modules of
`layerstore.build`; no container is run.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.layerstore.build.mini_build import build, written

pytestmark = pytest.mark.slow

OLD = 1_000_000_000
# What `docker create` puts into a root filesystem.
_DOCKERS = re.compile(r"\.dockerenv|(dev|proc|sys)(/.*)?|etc/(hostname|hosts|mtab|resolv\.conf)")
_FIELDS = (
    "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell",
    "StopSignal", "User", "Volumes", "WorkingDir",
)  # fmt: skip

CASES = {
    "copy": """\
FROM scratch
COPY . /all
COPY a.txt d l[ad] /some/
COPY d/sub /all/d
COPY tree /
COPY d /var/run/x
COPY a.txt /dang/
""",
    "rules": """\
FROM scratch AS one
COPY a.txt d la /m/
COPY d/[sx]* d/l? /n/
COPY ld /lnkd
COPY ld/ /lnkd
COPY a.txt /m/../p
COPY [al]* /cls/
COPY ./d/../a.txt /dd
COPY ["a.txt", "d/x", "/q r/"]
COPY d/?ub /one/
COPY a.txt .
FROM one AS Two
FROM scratch
COPY --from=tWO /m* /q?r /all/
COPY --from=0 m/sub/. /sub
ENV V=/env/ W=${V}w
WORKDIR $W
COPY --from=one /n/x ../${X:-y}
""",
    "owners and stages": """\
FROM scratch AS one
COPY d /d
COPY etc /etc
COPY --chown=me:wheel d /d
COPY --chown=7 a.txt /new/f
FROM scratch
WORKDIR /w
COPY --from=one /d d
ADD a.tar.gz sub/
ADD linked.tar sub/
WORKDIR /slash/
""",
    "configuration": """\
FROM scratch
ARG A=1
ENV B="$A 2" C=${D:-none}
LABEL x="a b" "y z"=$B
EXPOSE 80 443/udp
VOLUME ["/v", "/w x"]
USER me:$A
WORKDIR sub/../dir
SHELL ["/bin/b", "-c"]
CMD echo "é"
WORKDIR /abs//dir/
HEALTHCHECK --interval=90s --timeout=1500ms --retries=3 CMD a b
STOPSIGNAL RTMIN+3
ONBUILD COPY a b
ENTRYPOINT ["e", "f\\"g"]
MAINTAINER Me
""",
}


def fill(context: Path) -> None:
    written(
        context,
        {
            "a.txt": "a", "d/x": "x", "d/sub/y": "y", "d/lx": "->x", "d/broken": "->no",
            "la": "->a.txt", "ld": "->d", "empty": None, "out": "->/etc/passwd",
            "ignored/keep": "k", "ignored/gone": "g", "gone.o": "o",
            ".dockerignore": "*.o\nignored\n!ignored/keep\n",
            "tree/run": None, "tree/var/run": "->/run", "tree/dang": "->/nowhere/x",
            # This machine has no names for these ids; docker's digest of a stage would have them.
            "etc/passwd": "me:x:7777:88::/:\n", "etc/group": "me:x:99:\nwheel:x:4444:\n",
        },
    )  # fmt: skip
    os.chmod(context / "a.txt", 0o640)
    os.chmod(context / "d", 0o711)
    os.chmod(context / "d/sub", 0o1777)
    os.chmod(context / "d/x", 0o4755)
    os.chown(context / "a.txt", 5, 6)
    os.link(context / "d/x", context / "d/x2")
    with tarfile.open(context / "a.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("dir/f")
        member.size, member.mode, member.uid, member.mtime = 2, 0o600, 3, OLD
        tar.addfile(member, io.BytesIO(b"in"))
    with tarfile.open(context / "linked.tar", "w") as tar:
        member.name, member.uid = "f", 3
        tar.addfile(member, io.BytesIO(b"in"))
        member.name, member.type, member.linkname = "g", tarfile.LNKTYPE, "f"
        member.uid, member.mode = 4, 0o644
        tar.addfile(member)
    for directory, names, files in os.walk(context, topdown=False):
        for name in names + files:
            os.utime(os.path.join(directory, name), (OLD, OLD), follow_symlinks=False)


def run(*words: object) -> bytes:
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def exported(data: bytes) -> dict[str, str]:
    """Return the files of a root filesystem that docker exported."""
    found = {}
    first: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            name = member.name.rstrip("/")
            if _DOCKERS.fullmatch(name):
                continue
            target = first.get(member.linkname, member.linkname) if member.islnk() else name
            first[name] = target
            text = f"{member.mode & 0o7777:o} {member.uid}:{member.gid} "
            if member.islnk():
                found[name] = f"= {target}"
                continue
            text += f"-> {member.linkname}" if member.issym() else "/" if member.isdir() else ""
            if member.isfile():
                reader = tar.extractfile(member)
                assert reader is not None
                text += repr(reader.read())
            found[name] = text + (" old" if member.mtime == OLD else "")
    return found


def here(root: Path) -> dict[str, str]:
    """Return the files beneath `root` in the same way."""
    found = {}
    first: dict[int, str] = {}
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted(names + files):
            path = Path(directory, name)
            shown = str(path.relative_to(root))
            st = path.lstat()
            if stat.S_ISREG(st.st_mode) and first.setdefault(st.st_ino, shown) != shown:
                found[shown] = f"= {first[st.st_ino]}"
                continue
            text = f"{stat.S_IMODE(st.st_mode):o} {st.st_uid}:{st.st_gid} "
            if path.is_symlink():
                text += f"-> {os.readlink(path)}"
            else:
                text += "/" if path.is_dir() else repr(path.read_bytes())
            found[shown] = text + (" old" if int(st.st_mtime) == OLD else "")
    return found


@pytest.mark.parametrize("name", CASES)
def test_docker_makes_the_same(docker: list[str], tmp_path: Path, name: str) -> None:
    context = tmp_path / "context"
    fill(context)
    (context / "Dockerfile").write_text(CASES[name])
    os.utime(context / "Dockerfile", (OLD, OLD))
    image = run(*docker, "build", "-q", "--no-cache", context).decode().strip()
    (inspected,) = json.loads(run(*docker, "image", "inspect", image))
    history = run(*docker, "history", "--no-trunc", "--format", "{{.CreatedBy}}", image).decode()
    container = run(*docker, "create", image, "/x").decode().strip()
    theirs = exported(run(*docker, "export", container))
    run(*docker, "rm", container)
    ours = build(CASES[name], context, tmp_path)
    assert ours.history == history.rstrip("\n").split("\n")[::-1]
    made = {path: text for path, text in here(ours.root).items() if not _DOCKERS.fullmatch(path)}
    # `etc` is theirs too once something is in it.
    for tree in (made, theirs):
        tree.pop("etc", None)
    assert made == theirs
    for field in _FIELDS:
        assert (ours.state.config.get(field) or None) == (inspected["Config"].get(field) or None)
    assert ours.state.author == inspected["Author"]
