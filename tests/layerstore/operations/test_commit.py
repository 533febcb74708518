"""commit of a container at rest: what the image is, and that nothing is lost on the way."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import threading
from pathlib import Path

import pytest

from layerstore import Container, Image, Store
from layerstore.db.staging import remove_tree
from layerstore.errors import InvalidReference, StoreError
from layerstore.operations import commit as commit_module
from layerstore.operations.check import check
from layerstore.operations.commit import commit
from layerstore.operations.rootfs import export_container
from tests.helpers.images import add_image
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union
from unionfs.types import ROOT_NODEID

pytestmark = pytest.mark.usefixtures("as_root")

BASE = {"etc/motd": b"hello\n", "bin/sh": b"x" * 1_000}


@pytest.fixture
def container(store: Store) -> Container:
    image = add_image(store, BASE, names=["base:1"], config={"Cmd": ["sh"], "Env": ["A=b"]})
    config = dict(store.images.config(image).config)
    return store.containers.create(image, name="box", image_name="base:1", config=config)


def change(store: Store, container: Container, name: str = "etc/new", text: bytes = b"new") -> None:
    path = store.containers.get(container.id).upper / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)


def shown(store: Store, image: Image, name: str) -> bytes:
    """Return what `name` holds in the image."""
    for layer in store.layers.chain(image.top):
        if (layer.diff / name).exists():
            return (layer.diff / name).read_bytes()
    raise FileNotFoundError(name)


def all_well(store: Store) -> None:
    assert check(store) == []


def test_the_upper_becomes_a_layer_and_the_layer_an_image(
    store: Store, container: Container
) -> None:
    change(store, container)
    done = commit(
        store,
        container,
        "made:2",
        author="Me <me@x>",
        message="why not",
        changes=["CMD echo hi", "LABEL a=b"],
    )
    image = done.image
    assert store.images.resolve("made:2") == image
    assert len(store.layers.chain(image.top)) == 2
    assert shown(store, image, "etc/new") == b"new"
    config = store.images.config(image)
    assert config.author == "Me <me@x>" and config.comment == "why not"
    assert config.config["Cmd"] == ["/bin/sh", "-c", "echo hi"]
    assert config.config["Env"] == ["A=b"]
    last = config.history[-1]
    assert (last.author, last.comment, last.created_by) == ("Me <me@x>", "why not", "sh")
    assert store.images.get(image.id).parent == container.image
    now = store.containers.get(container.id)
    assert now.base == image.top
    assert os.listdir(now.upper) == []
    assert os.listdir(now.directory / "layers") == []
    all_well(store)


def test_the_container_goes_on_over_its_own_layer(store: Store, container: Container) -> None:
    change(store, container)
    first = commit(store, container).image
    change(store, container, "etc/more", b"more")
    second = commit(store, container, "made:3").image
    assert store.images.get(second.id).parent == first.id
    layers = store.layers.chain(second.top)
    assert [sorted(os.listdir(layer.diff / "etc")) for layer in layers[:2]] == [["more"], ["new"]]
    all_well(store)


def test_the_same_change_has_the_same_diff_id(store: Store, container: Container) -> None:
    other = store.containers.create(store.images.get(container.image), name="other")
    for one in (container, other):
        change(store, one)
        for path in ("etc/new", "etc", ""):
            os.utime(one.upper / path, ns=(1, 10**18))
    tops = {commit(store, one).image.top for one in (container, other)}
    assert len(tops) == 1
    all_well(store)


def test_a_deep_layer_that_the_store_has_is_removed(store: Store, container: Container) -> None:
    """A tree deeper than Python calls."""
    other = store.containers.create(store.images.resolve("base:1"), name="other")
    for box in (container, other):
        made = [box.upper]
        for _ in range(1100):
            made.append(made[-1] / "d")
            made[-1].mkdir()
        for path in made:
            os.utime(path, (1, 1))
        commit(store, box, f"{box.name}:1")
    first, second = (store.images.resolve(name) for name in ("box:1", "other:1"))
    assert first.top == second.top
    assert store.containers.get(other.id).frozen() == []
    assert os.listdir(other.directory / "layers") == []
    remove_tree(store.layers.chain(first.top)[0].diff)  # pytest could not


def test_nothing_changed_is_an_empty_layer(store: Store, container: Container) -> None:
    image = commit(store, container, "same:1", message="as before").image
    config = store.images.config(image)
    assert image.top == container.base
    assert config.history[-1].empty_layer and config.history[-1].comment == "as before"
    assert store.containers.get(container.id).base == container.base
    all_well(store)


def test_what_a_commit_cut_short_left_is_a_layer_of_the_next(
    store: Store, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(store, container)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(commit_module, "pack", full)
        with pytest.raises(StoreError, match="No space"):
            commit(store, container)
    assert len(container.frozen()) == 1
    change(store, container, "etc/later", b"later")
    image = commit(store, container).image
    assert shown(store, image, "etc/new") == b"new"
    assert shown(store, image, "etc/later") == b"later"
    assert len(store.layers.chain(image.top)) == 3
    assert len(store.images.config(image).history) == 3
    all_well(store)


def test_two_commits_at_once_take_turns(store: Store, container: Container) -> None:
    change(store, container)
    images: list[Image] = []

    def work() -> None:
        with Store.open(store.root, sync=False) as own:
            images.append(commit(own, own.containers.get(container.id)).image)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(images) == 3
    assert len({image.top for image in images}) == 1, "only the first had anything to commit"
    all_well(store)


def test_links_of_a_lower_file_stay_one_file(store: Store) -> None:
    image = add_image(store, {"a": b"1"})
    diff = store.layers.get(image.top).diff if image.top else Path()
    os.link(diff / "a", diff / "b")
    container = store.containers.create(image, name="links")
    union = open_union(
        UnionConfig(
            lowers=(os.fsencode(diff),),
            upper=os.fsencode(container.upper),
            work=os.fsencode(container.work),
        )
    )
    attr = union.lookup(ROOT_NODEID, b"a")
    assert attr is not None
    fh = union.open(attr.nodeid, os.O_WRONLY)
    union.write(fh, 0, b"2")
    union.release(fh)
    union.close()
    made = commit(store, container).image
    assert (shown(store, made, "a"), shown(store, made, "b")) == (b"2", b"2")


def test_unchanged_copies_are_dropped_when_asked(store: Store, container: Container) -> None:
    below = store.layers.chain(container.base)[0].diff
    upper = container.upper
    (upper / "etc").mkdir()
    (upper / "etc/motd").write_bytes(b"hello\n")
    found = (below / "etc/motd").stat()
    os.utime(upper / "etc/motd", ns=(found.st_atime_ns, found.st_mtime_ns))
    folder = (below / "etc").stat()
    os.utime(upper / "etc", ns=(folder.st_atime_ns, folder.st_mtime_ns))
    assert stat.S_IMODE((upper / "etc").stat().st_mode) == stat.S_IMODE(folder.st_mode)
    image = commit(store, container, prune_unchanged=True).image
    assert image.top == container.base
    all_well(store)


def test_wrong_words_change_nothing(store: Store, container: Container) -> None:
    change(store, container)
    with pytest.raises(InvalidReference):
        commit(store, container, "UPPER:1")
    with pytest.raises(StoreError):
        commit(store, container, changes=["RUN make"])
    assert container.frozen() == []
    assert (container.upper / "etc/new").exists()


def test_every_image_of_the_layers_may_be_gone(store: Store, container: Container) -> None:
    change(store, container)
    first = commit(store, container).image
    store.images.remove(first.id, force=True)
    change(store, container, "etc/more", b"more")
    image = commit(store, container).image
    assert len(store.images.config(image).diff_ids) == 3
    all_well(store)


def test_a_malformed_capability_is_none(store: Store, container: Container) -> None:
    """Root of a container can give a file an empty one, of which getxattr(2) says EINVAL."""
    change(store, container)
    change(store, container, "etc/motd", b"changed")
    for name in ("", "etc", "etc/new", "etc/motd"):
        os.setxattr(container.upper / name, "security.capability", b"")
    out = io.BytesIO()
    export_container(store, container, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert {"etc/new", "etc/motd"} <= set(tar.getnames())
    image = commit(store, container, "made").image
    assert shown(store, image, "etc/new") == b"new"
    all_well(store)
