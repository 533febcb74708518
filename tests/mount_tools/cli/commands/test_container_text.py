"""How a container is described in a table."""

from __future__ import annotations

import time

import pytest

from layerstore import Image
from layerstore.containers.container import Container
from layerstore.oci.documents import Object
from mount_tools.cli.commands import container_text as text
from tests.helpers.cli import Cli

HOUR_NS = 3_600 * 10**9


@pytest.fixture
def box(cli: Cli, base: Image) -> Container:
    config: Object = {"Entrypoint": ["sh", "-c"], "Cmd": ["echo a b"], "Labels": {"x": "1"}}
    with cli.store() as store:
        return store.containers.create(base, name="box", image_name="busy:1", config=config)


def test_the_command_has_quotes_around_words_with_spaces(box: Container) -> None:
    assert text.command_line(box) == "sh -c 'echo a b'"
    assert text.quoted('a"b\x1b') == r'"a\"b\u001b"'


def test_status(box: Container) -> None:
    ago = time.time_ns() - 2 * HOUR_NS
    assert text.status_text(box) == "Created"
    ended = box._replace(status="exited", exit_code=3, finished_ns=ago)
    assert text.status_text(ended) == "Exited (3) 2 hours ago"
    up = box._replace(status="running", started_ns=ago)
    assert text.status_text(up) == "Up 2 hours"
    assert text.status_text(up, paused=True) == "Up 2 hours (Paused)"
    assert text.status_text(up._replace(mount_point="/mnt")) == "Up 2 hours (Mounted)"


def test_an_image_whose_name_moved_on_is_shown_by_its_id(cli: Cli, box: Container) -> None:
    with cli.store() as store:
        assert text.image_text(store, box) == "busy:1"
        store.images.remove("busy:1", force=True)
        assert text.image_text(store, box) == box.image.short
        assert text.image_text(store, box, whole=True) == box.image
