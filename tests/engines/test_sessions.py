"""What users of podman do with containers: it prints the same as on kernel overlayfs."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import tarfile
from pathlib import Path

import pytest

from tests.engines.conftest import only_if_asked, require_engines
from tests.engines.store import Store, fill
from tests.engines.user import User
from tests.helpers.mounts import wait_until
from tests.layerstore.archives import file, whole

_LAYERS = 125  # as many as older engines allow

_READ_ONLY = """
podman run --rm --read-only base sh -c 'touch /tmp/new; touch /new || echo refused; ls /tmp /data'
"""

_ROOT_OF_A_DIRECTORY = """
mkdir tree; podman create --name exported base sh > /dev/null
podman export exported | tar -C tree -x; podman rm exported > /dev/null
podman run --rm --rootfs $PWD/tree:O sh -c 'rm /data/removed; echo new > /data/new; ls /data'
ls tree/data
"""

_VOLUMES = """
mkdir -p source/dir owned named; echo old > source/file; touch owned/file
podman run --rm -v $PWD/source:/v:O base sh -c '
    echo more >> /v/file; cat /v/file; rm -r /v/dir; touch /v/new; chown 5 /v/new; stat -c %u /v/*'
ls source; cat source/file
podman run --rm -u 5:6 -v $PWD/owned:/v:U base sh -c 'touch /v/new; stat -c %u:%g /v /v/*'
podman run --rm -v named:/data base ls /data; podman volume rm named
"""

_IMAGES_AS_VOLUMES = """
podman run --rm --mount type=image,source=base,destination=/i base sh -c '
    touch /i/new || echo refused; ls /i/data'
podman run --rm --mount type=image,source=base,destination=/i,rw=true base sh -c '
    touch /i/new; chown 4 /i/data/given; stat -c %u:%n /i/new /i/data/given'
"""

_BUILD = """
mkdir context; echo file > context/file
cat > context/Containerfile << END
FROM base AS first
RUN mkdir -p /made/deep && touch /made/deep/file && chown 3:4 /made/deep/file && chmod 1777 /tmp
FROM first
RUN --mount=type=bind,from=first,source=/made,target=/m,rw touch /m/new && stat -c %u:%n /m/deep/*
RUN --mount=type=cache,target=/cache touch /cache/file; ls /cache
COPY --from=first --chown=7:8 /made /copied
COPY --from=first /made /with-owners
ADD file /added/
VOLUME /data
USER 5
RUN id -u; touch /tmp/new
END
podman build --signature-policy policy.json --isolation chroot -t built context |
    grep -Ev '^-->|STEP|^[0-9a-f]*$'
podman run --rm built sh -c 'cd /; stat -c %u:%g:%a:%n copied copied/* */deep/file added/* tmp/*'
podman build --signature-policy policy.json --isolation chroot --layers -t built context > /dev/null
podman build --signature-policy policy.json --isolation chroot --layers -t built context |
    grep -c 'Using cache'
podman build --signature-policy policy.json --isolation chroot --squash-all -q -t one context |
    wc -l
podman run --rm one ls /copied /with-owners
"""

_COPIES = """
mkdir copied; echo old > copied/file
podman run -d --name running base sleep 1000 > /dev/null
podman cp copied running:/data/copied
podman exec running sh -c 'cat /data/copied/file; rm /data/copied/file; touch /data/new'
podman cp running:/data/new - | tar t
podman diff running | LC_ALL=C sort
podman commit -q --pause=false running of-running > /dev/null
podman rm -f -t 0 running
podman run --rm of-running ls /data /data/copied
podman diff of-running base | LC_ALL=C sort
"""

_MANY_AT_ONCE = """
for number in 1 2 3 4 5 6; do podman run -d --name many$number base sleep 1000 > /dev/null & done
wait
podman ps -q | wc -l
for number in 1 2 3 4 5 6; do
    podman exec many$number sh -c "echo $number > /data/own; cat /data/own; ls /data"
done
podman rm -f -t 0 -a > /dev/null
podman pod create --infra=false --name pod > /dev/null
podman run -d --pod pod --name in-pod base sleep 1000 > /dev/null
podman pod ps --format '{{.Status}} {{.NumberOfContainers}}'
podman pod rm -f -t 0 pod | wc -l
podman ps -aq | wc -l
"""

_MANY_LAYERS = """
podman load -q -i many.tar
podman run --name deep many:1 sh -c '
    cd /data; for file in *; do echo $file $(cat $file); done; ls deep; rm 3; echo new > 4; ls'
podman commit -q deep deeper > /dev/null; podman rm deep
podman run --rm deeper sh -c 'ls /data; cat /data/4'
"""

_USER_NAMESPACES = """
podman run --rm --userns=keep-id base sh -c 'id -u; touch /data/new || echo refused'
podman run --name kept --userns=keep-id -u 0 base sh -c '
    cd /data; touch new other; chown 77 other; stat -c %u:%g /etc given new other'
podman commit -q kept of-kept > /dev/null; podman rm kept
podman run --rm of-kept sh -c 'cd /data; stat -c %u:%g /etc given new other'
podman run --rm --userns=auto:size=500 base sh -c 'touch /new; stat -c %u:%g /etc /data/given /new'
"""

_SESSIONS = {
    "read_only": _READ_ONLY,
    "root_of_a_directory": _ROOT_OF_A_DIRECTORY,
    "volumes": _VOLUMES,
    "images_as_volumes": _IMAGES_AS_VOLUMES,
    "build": _BUILD,
    "copies": _COPIES,
    "many_at_once": _MANY_AT_ONCE,
    "many_layers": _MANY_LAYERS,
    "user_namespaces": _USER_NAMESPACES,  # of root's only where there are ids for them
}

_DAEMONS = "grep -la 'upperdi[r]={root}' /proc/[0-9]*/cmdline 2> /dev/null"
_KILL = """
killed=
for path in $({daemons}); do killed=$(basename $(dirname $path)); kill -{number} $killed; done
test $killed
"""


def _make_image_of_many_layers(path: Path) -> None:
    """Write a docker archive of the image `many`; its layers replace and delete files."""
    root = path.with_name("many-root")
    root.mkdir()
    fill(root)
    (root / "data/deep").mkdir()
    first = io.BytesIO()
    with tarfile.open(fileobj=first, mode="w") as out:
        out.add(root, ".")
    shutil.rmtree(root)
    layers = [first.getvalue()]
    for number in range(1, _LAYERS):
        made = [file(b"data/%d" % (number % 40), b"%d" % number)]
        made.append(file(b"data/deep/of-%d" % number, b""))
        if number % 7 == 3:
            made.append(file(b"data/.wh.%d" % ((number + 11) % 40), b""))
        if number % 31 == 30:
            made.append(file(b"data/deep/.wh..wh..opq", b""))
        layers.append(whole(*made))
    ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    system = {"architecture": "amd64", "os": "linux", "config": {}}
    config = json.dumps({**system, "rootfs": {"type": "layers", "diff_ids": ids}}).encode()
    names = [f"{number}.tar" for number in range(_LAYERS)]
    listed = [{"Config": "config.json", "RepoTags": ["localhost/many:1"], "Layers": names}]
    manifest = json.dumps(listed).encode()
    with tarfile.open(path, "w") as out:
        for name, data in zip(
            (*names, "config.json", "manifest.json"), (*layers, config, manifest), strict=True
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))


def _session(name: str, where: Path) -> str:
    if name == "many_layers":
        _make_image_of_many_layers(where / "many.tar")
        (where / "many.tar").chmod(0o644)
    return _SESSIONS[name]


@only_if_asked
@pytest.mark.parametrize("name", list(_SESSIONS)[:-1])
def test_as_root(name: str, store: Store, native: Store) -> None:
    require_engines("podman", "crun", "conmon")
    said = [one.script(_session(name, one.base)) for one in (native, store)]
    assert said[0]
    assert said[0].splitlines() == said[1].splitlines()


@only_if_asked
@pytest.mark.parametrize("name", _SESSIONS)
def test_as_a_user(name: str, users: tuple[User, User]) -> None:
    said = [one.script(_session(name, one.home)) for one in users]
    assert said[0]
    assert said[0].splitlines() == said[1].splitlines()


@only_if_asked
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_ends_under_a_container(number: int, store: Store) -> None:
    """Nothing that was written is lost, and the container starts again."""
    require_engines("podman", "crun", "conmon")
    store.script(f"""
    podman run -d --name under base sh -c 'echo kept > /data/kept; sleep 1000' > /dev/null
    until podman exec under cat /data/kept; do :; done
    {_KILL.format(daemons=_DAEMONS.format(root=store.base / "root"), number=number)}
    podman stop -t 0 under
    podman start under
    podman exec under cat /data/kept > kept-{number}
    podman rm -f -t 0 under
    """)
    assert (store.base / f"kept-{number}").read_text() == "kept\n"
    wait_until(lambda: not store.daemons(), "the daemons to end")


@only_if_asked
def test_a_container_after_a_reboot(store: Store) -> None:
    """The mount is gone, and with it what the engine has noted of it in /run."""
    require_engines("podman", "crun", "conmon")
    said = store.script("""
    podman create --name rebooted base cat /data/kept > /dev/null
    point=$(podman mount rebooted); echo kept > $point/data/kept; umount -l $point
    rm -r run tmp
    podman start -a rebooted
    podman rm rebooted > /dev/null
    """)
    assert said == "kept\n"
