"""The package layerstore: its names are there, and cost nothing before they are used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import layerstore
from layerstore.containers.container import Container
from layerstore.store import Store


@pytest.mark.parametrize("name", layerstore.__all__)
def test_each_name_is_that_of_its_module(name: str) -> None:
    found = getattr(layerstore, name)
    assert getattr(import_module(found.__module__), name) is found
    assert name in dir(layerstore)


def test_the_store_and_its_containers() -> None:
    assert layerstore.Store is Store and layerstore.Container is Container


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Shop'"):
        layerstore.Shop  # type: ignore[attr-defined]  # noqa: B018


def test_a_daemon_does_not_load_the_store_for_its_messages() -> None:
    """Nor inspect for dataclasses, which would take 2 MB in each daemon."""
    program = (
        "import sys, layerstore.containers.control_protocol;"
        "heavy = {'sqlite3', 'layerstore.store', 'layerstore.layers', 'dataclasses', 'inspect'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
