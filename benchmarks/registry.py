"""`python -m benchmarks.registry`: images from and to a registry, beside docker, podman and skopeo.

Decided here and only here: what each is asked to do, and how it is timed.  All talk to the
same docker-registry on loopback, in plain HTTP.  The image is a Debian root filesystem with
copies of its /usr up to 600 MB, in five layers of gzip.

    pull     the image, of which nothing is here, becomes ready to be run
    again    the same command, when the image is up to date
    push     an image of one layer of 600 MB, made here, goes to an empty registry
    repush   the same command, when the registry has it

skopeo has no store: its pull is a copy to an OCI layout, which unpacks nothing, and it
pushes nothing that it would have to pack.

How they take turns and are timed: `benchmarks.side_by_side`; the registry's processor time
does not count.  PyUnion alone writes back what it pulled before it says that it is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.demo import registry
from benchmarks.side_by_side import CMD, Makers, Said, Taken, in_turns, timed
from benchmarks.stores import DockerStore, PodmanStore, PyUnionStore, Store, run, workspace

ROWS = ("pull", "again", "push", "repush")
LAYERS = 5
NAME = "bench/box:1"


@dataclass(frozen=True)
class Given:
    """What all subjects work with: a tar of everything, and an image of it in a registry."""

    tar: Path
    image: str

    @classmethod
    def make(cls, base: Path, rootfs: Path, host: str) -> Given:
        """Make both; the image goes to the registry at `host`."""
        tar = base / "rootfs.tar"
        run("tar", "-C", rootfs, "--numeric-owner", "-cf", tar, ".")
        layout = base / "layout"
        write_layout(layout, base, rootfs)
        image = f"{host}/{NAME}"
        copy = ("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false")
        run(*copy, f"oci:{layout}:1", f"docker://{image}")
        shutil.rmtree(layout)
        return cls(tar, image)


def write_layout(layout: Path, base: Path, rootfs: Path) -> None:
    """Write an OCI layout of `rootfs` in layers of about the same size, packed as docker does."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        kind = f"application/vnd.oci.image.{kind}"
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    diff_ids, layers = [], []
    for names in _parts(rootfs):
        plain = base / "layer.tar"
        with tarfile.open(plain, "w", format=tarfile.PAX_FORMAT) as tar:
            for name in names:
                tar.add(rootfs / name, name, recursive=False)
        diff_ids.append(f"sha256:{hashlib.sha256(plain.read_bytes()).hexdigest()}")
        packed = subprocess.run(["gzip", "-nc", plain], stdout=subprocess.PIPE, check=True).stdout
        layers.append(put(packed, "layer.v1.tar+gzip"))
        plain.unlink()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": layers,
    }
    entry = put(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def _parts(rootfs: Path) -> list[list[str]]:
    """Return what is in `rootfs` in as many parts as there are layers, equal in bytes."""
    sizes: list[tuple[str, int]] = []
    for folder, directories, files in os.walk(rootfs):
        for name in sorted([*directories, *files]):
            path = os.path.join(folder, name)
            found = os.lstat(path)
            if not os.path.isdir(path) or os.path.islink(path):
                sizes.append((os.path.relpath(path, rootfs), found.st_size))
    step = sum(size for _, size in sizes) / LAYERS
    parts: list[list[str]] = [[] for _ in range(LAYERS)]
    done = 0
    for name, size in sizes:
        parts[min(int(done / step), LAYERS - 1) if step else 0].append(name)
        done += size
    return parts


class Subject:
    """One store, and how it is asked to pull and push."""

    flags: tuple[str, ...] = ()
    pushes = True

    def __init__(self, store: Store, given: Given, scratch: Path) -> None:
        self.store = store
        self.given = given
        self.scratch = scratch

    def pull(self) -> None:
        self.store.command("pull", "-q", *self.flags, self.given.image)

    def push(self, name: str) -> None:
        self.store.command("push", "-q", *self.flags, name)

    def make(self, name: str) -> None:
        """Make the image that is pushed."""
        self.store.command("import", *CMD, self.given.tar, name)

    def clear(self) -> None:
        """Remove every image."""
        images = self.store.command("images", "-q").split()
        self.store.command("rmi", "-f", *dict.fromkeys(images))


class Podman(Subject):
    flags = ("--tls-verify=false",)

    def make(self, name: str) -> None:
        self.store.command("import", "-q", *CMD, self.given.tar, name)


class Skopeo(Subject):
    pushes = False

    def pull(self) -> None:
        source = f"docker://{self.given.image}"
        target = f"oci:{self.scratch / 'layout'}:1"
        self.store.command("copy", "-q", "--src-tls-verify=false", source, target)

    def clear(self) -> None:
        shutil.rmtree(self.scratch / "layout")


MAKERS: Makers[Given, Subject] = {
    "pyunion": (PyUnionStore, Subject),
    "docker": (DockerStore, Subject),
    "podman": (PodmanStore, Podman),
    "skopeo": (lambda base: Store("skopeo", "--insecure-policy"), Skopeo),
}
PACKAGES = {"docker": "docker.io", "podman": "podman", "skopeo": "skopeo"}


def one_round(taken: Taken, base: Path, name: str, subject: Subject, _: int) -> None:
    """Let one subject do all it can, and remove what it made."""
    time = partial(timed, taken, name=name, store=subject.store)
    time(row="pull", action=subject.pull)
    time(row="again", action=subject.pull)
    subject.clear()
    if not subject.pushes:
        return
    with registry(base, "empty") as host:
        image = f"{host}/{NAME}"
        subject.make(image)
        push = partial(subject.push, image)
        time(row="push", action=push)
        time(row="repush", action=push)
        subject.clear()


def measure(base: Path, given: Given, names: list[str], rounds: int) -> Taken:
    """Let the subjects work side by side; return what it took them."""
    taken: Taken = {row: {} for row in ROWS}
    in_turns(MAKERS, base, given, names, rounds, partial(one_round, taken, base))
    return taken


def main(words: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    said = Said.of(words, __doc__, [*MAKERS], "registry.json", quick=1)
    with workspace("registry-", said.place) as base, registry(base, "registry") as host:
        rootfs = said.make_rootfs(base)
        given = Given.make(base, rootfs, host)
        shutil.rmtree(rootfs)
        taken = measure(base, given, said.names, said.rounds)
        said.report(taken, PACKAGES, bytes=given.tar.stat().st_size, layers=LAYERS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
