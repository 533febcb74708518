"""A package imports the modules of its names when these are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from unionfs.lazy_names import lazy_names

PROGRAM = """
import sys
import {package}
assert "{module}" not in sys.modules, "too early"
found = {package}.{name}
assert found is sys.modules["{module}"].{name}
assert vars({package})["{name}"] is found, "the next use needs no look-up"
"""


@pytest.mark.parametrize(
    ("package", "module", "name"),
    [
        ("unionfs", "unionfs.core.config", "UnionConfig"),
        ("layerstore", "layerstore.oci.reference", "Reference"),
        ("layerstore.registry", "layerstore.registry.client", "Client"),
    ],
)
def test_a_module_is_imported_with_the_first_use(package: str, module: str, name: str) -> None:
    program = PROGRAM.format(package=package, module=module, name=name)
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_a_package_does_not_have_is_said_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'box' has no attribute 'lid'"):
        lazy_names("box", {"side": "sides"})("lid")
