"""An image of as many layers as can be loaded can be used in every way, with few open files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest

from layerstore import Container, Image, Store
from layerstore.diff.changes import changes
from layerstore.diff.differences import differences
from layerstore.errors import LimitExceeded
from layerstore.limits import MAX_LAYERS
from layerstore.operations.check import check
from layerstore.operations.commit import commit
from layerstore.operations.rootfs import export_container
from tests.helpers import children
from tests.helpers.images import add_image, config_of, diff_id

pytestmark = pytest.mark.slow


FEW = 800  # open files; a comparison of two such stacks needs a thousand and more
FILES = [{f"f{number}": b"%d" % number} for number in range(MAX_LAYERS)]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Image]]:
    """A store with an image of `MAX_LAYERS` layers."""
    with Store.open(tmp_path_factory.mktemp("many") / "store", sync=False) as store:
        yield store, add_image(store, *FILES)


@pytest.fixture
def container(full: tuple[Store, Image]) -> Iterator[Container]:
    store, image = full
    made = store.containers.create(image)
    (made.upper / "new").write_text("x")
    yield made
    store.containers.remove(made)


def with_few_descriptors(work: object) -> None:
    """Run `work` in a child whose soft limit of open files is `FEW`."""
    assert callable(work)

    def run() -> None:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
        work()

    children.run(run)


def test_its_container_is_exported(full: tuple[Store, Image], container: Container) -> None:
    store, _ = full

    def work() -> None:
        out = io.BytesIO()
        export_container(store, container, out)
        out.seek(0)
        with tarfile.open(fileobj=out) as tar:
            names = set(tar.getnames())
        assert {"new", "f0", f"f{MAX_LAYERS - 1}"} <= names

    with_few_descriptors(work)


def test_its_container_is_compared(full: tuple[Store, Image], container: Container) -> None:
    store, _ = full
    lowers = store.containers.lowers(container)

    def work() -> None:
        upper = container.upper
        found = differences(lowers, [upper, *lowers], content=False)
        assert len(list(found)) == 1
        assert len(changes(bytes(upper), [bytes(lower) for lower in lowers])) == 1

    with_few_descriptors(work)


def test_a_commit_that_would_need_another_layer_is_refused(
    full: tuple[Store, Image], container: Container
) -> None:
    store, image = full
    before = store.containers.lowers(container)
    with pytest.raises(LimitExceeded, match=f"would have {MAX_LAYERS + 1} layers, .* export"):
        commit(store, container)
    assert store.containers.lowers(container) == before, "nothing was frozen"
    (container.upper / "new").unlink()
    done = commit(store, container, changes=["ENV a=b"])
    assert done.image.top == image.top


def test_a_commit_up_to_the_limit_works_and_can_be_used(full: tuple[Store, Image]) -> None:
    store, _ = full
    chain = store.layers.chain(store.images.resolve(full[1].id).top)
    config = config_of([diff_id(files) for files in FILES[:-1]])
    nearly = store.images.add(config.data)
    assert nearly.top == chain[1].chain_id
    container = store.containers.create(nearly)
    (container.upper / "last").write_text("x")
    done = commit(store, container)
    assert len(store.layers.chain(done.image.top)) == MAX_LAYERS
    (container.upper / "more").write_text("y")
    with pytest.raises(LimitExceeded):
        commit(store, container)
    with_few_descriptors(lambda: export_container(store, container, io.BytesIO()))
    assert not [finding for finding in check(store) if finding.kind == "container"]
