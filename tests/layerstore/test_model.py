"""Any sequence of operations: names, images and layers are what a dictionary would say they are."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from layerstore import Digest, Image, Store
from layerstore.errors import Conflict, NotFound
from layerstore.images.removal import Removed
from layerstore.oci.reference import familiar
from layerstore.operations import gc
from layerstore.operations.check import check
from tests.helpers.effort import examples
from tests.helpers.images import add_image

NAMES = st.sampled_from(["a:1", "a:2", "b:1", "c:latest"])
LAYERS = st.lists(st.sampled_from("xyz"), min_size=0, max_size=3)
BOXES = st.sampled_from(["one", "two"])


class StoreMachine(RuleBasedStateMachine):
    """A store beside what it should hold: images by id, tags, containers and what they stand on."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.store = Store.open(self.base / "store", sync=False)
        self.images: dict[Digest, Image] = {}
        self.tags: dict[str, Digest] = {}
        self.boxes: dict[str, Digest] = {}
        self.running: set[str] = set()

    @initialize(layers=LAYERS, name=NAMES)
    def begin(self, layers: list[str], name: str) -> None:
        self.load(layers, name)

    @rule(layers=LAYERS, name=NAMES)
    def load(self, layers: list[str], name: str) -> None:
        image = add_image(self.store, *({letter: letter.encode()} for letter in layers))
        self.store.images.tag(image, name)
        self.images[image.id] = image
        self.tags[name] = image.id

    @rule(source=NAMES, name=NAMES)
    def tag(self, source: str, name: str) -> None:
        if source in self.tags:
            self.store.images.tag(self.store.images.resolve(source), name)
            self.tags[name] = self.tags[source]

    @rule(layers=LAYERS, source=NAMES)
    def commit(self, layers: list[str], source: str) -> None:
        """Add a nameless child of an image, with layers of its own."""
        if source in self.tags:
            parent = self.tags[source]
            letters = [*layers, "x"]
            child = add_image(
                self.store, *({letter: letter.encode()} for letter in letters), parent=parent
            )
            self.images.setdefault(child.id, child)

    @rule(name=NAMES, force=st.booleans())
    def remove_name(self, name: str, force: bool) -> None:
        known = self.tags.get(name)
        try:
            done = self.store.images.remove(name, force=force)
        except NotFound:
            assert known is None
        except Conflict:
            assert not force and known in self.boxes.values()
        else:
            assert done[0] == Removed("Untagged", name)
            self.forget(done)

    @rule(name=NAMES, force=st.booleans())
    def remove_id(self, name: str, force: bool) -> None:
        known = self.tags.get(name)
        if known is None:
            return
        try:
            self.forget(self.store.images.remove(known.encoded, force=force))
        except Conflict:
            users = [box for box, image in self.boxes.items() if image == known]
            names = [tag for tag, image in self.tags.items() if image == known]
            children = self.store.images.children(known)
            if force:
                assert children or self.running & set(users)
            else:
                assert children or users or len(names) > 1

    def forget(self, done: list[Removed]) -> None:
        for line in done:
            if line.what == "Untagged":
                del self.tags[line.text]
            else:
                self.images.pop(Digest(line.text), None)
                assert line.text not in self.tags.values()

    @rule(name=NAMES, box=BOXES)
    def create(self, name: str, box: str) -> None:
        if name not in self.tags:
            return
        try:
            self.store.containers.create(self.store.images.resolve(name), name=box)
            assert box not in self.boxes
            self.boxes[box] = self.tags[name]
        except Conflict:
            assert box in self.boxes

    @rule(box=BOXES)
    def start_or_stop(self, box: str) -> None:
        if box not in self.boxes:
            return
        container = self.store.containers.resolve(box)
        if box in self.running:
            self.store.containers.finished(container, 0)
        else:
            self.store.containers.started(container, os.getpid())
        self.running ^= {box}

    @rule(box=BOXES)
    def remove_box(self, box: str) -> None:
        try:
            self.store.containers.remove(self.store.containers.resolve(box))
            assert box not in self.running
            del self.boxes[box]
        except NotFound:
            assert box not in self.boxes
        except Conflict:
            assert box in self.running

    @rule(everything=st.booleans())
    def prune(self, everything: bool) -> None:
        rehearsed = gc.prune_images(self.store, all_unused=everything, dry_run=True)
        pruned = gc.prune_images(self.store, all_unused=everything)
        assert pruned == rehearsed
        self.forget(pruned.images)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.base / "store", sync=False)

    @invariant()
    def names_and_images_are_as_they_should_be(self) -> None:
        images = self.store.images.all()
        assert {image.id for image in images} == set(self.images)
        tags = {familiar(tag): image.id for image in images for tag in image.tags}
        assert tags == self.tags
        boxes = {found.name: found.image for found in self.store.containers.list()}
        assert boxes == self.boxes

    @invariant()
    def store_is_sound_and_holds_what_is_needed_and_no_more(self) -> None:
        assert [str(finding) for finding in check(self.store)] == []
        needed: set[str] = set()
        tops = [image.top for image in self.store.images.all()]
        tops += [container.base for container in self.store.containers.list()]
        for top in tops:
            needed.update(layer.chain_id.encoded for layer in self.store.layers.chain(top))
        assert set(os.listdir(self.store.root / "layers")) == needed
        assert set(self.store.blobs.all()) == set(self.images)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.base)


StoreMachine.TestCase.settings = settings(
    max_examples=examples(25),
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TestStore = StoreMachine.TestCase
