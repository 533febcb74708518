"""Write docs/api.md from the docstrings of what the packages offer.

    python docs/make_api.py

`tests/test_docs.py` fails where the page is not what this writes.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "api.md"

# A package's own names; what the attributes of a store are; functions that a script
# imports from their modules.
PACKAGES = ("layerstore", "layerstore.registry", "unionfs")
OTHERS = (
    "layerstore.images.images:ImageStore",
    "layerstore.containers.containers:ContainerStore",
    "layerstore.layers:LayerStore",
    "layerstore.operations.commit:commit",
    "layerstore.operations.rootfs:import_image",
    "layerstore.operations.rootfs:export_container",
    "layerstore.archive.load:load",
    "layerstore.archive.save:save",
)

_HEAD = """\
# The library

<!-- Made by docs/make_api.py from the docstrings; do not edit. -->

What `pyunion` does is a library: synchronous and typed. Times are ns since 1970, sizes are
bytes, and errors of the store are `StoreError`, whose text is a sentence for people.
"""


class _Something:
    def __repr__(self) -> str:
        return "..."


_SOMETHING = _Something()


def page() -> str:
    """Return the page."""
    sys.path.insert(0, str(TOP))
    parts = [_HEAD]
    for package in PACKAGES:
        module = importlib.import_module(package)
        parts.append(f"## {package}\n\n{_text(module)}\n")
        parts += [_entry(package, name, getattr(module, name)) for name in sorted(module.__all__)]
    parts.append("## Parts of a store, and operations\n")
    for wanted in OTHERS:
        home, _, name = wanted.partition(":")
        parts.append(_entry(home, name, getattr(importlib.import_module(home), name)))
    return "\n".join(part for part in parts if part)


def _entry(home: str, name: str, value: object) -> str:
    if inspect.isclass(value):
        members = "".join(_members(value))
        return f"### {home}.{name}\n\n{_text(value)}\n{members}"
    if callable(value):
        return f"### {home}.{name}\n\n{_code(name + _signature(value))}\n{_text(value)}\n"
    return f"### {home}.{name}\n\n{_code(f'{name} = {value!r}')}"


def _members(kind: type) -> Iterator[str]:
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            text = _text(member)
            yield f"\n**`{name}`**: {text}\n" if text else f"\n**`{name}`**\n"
        elif isinstance(member, classmethod | staticmethod):
            yield _method(name, member.__func__)
        elif inspect.isfunction(member):
            yield _method(name, member)


def _method(name: str, function: Callable[..., object]) -> str:
    return f"\n{_code(name + _signature(function))}\n{_text(function)}\n"


def _signature(function: Callable[..., object]) -> str:
    found = inspect.signature(function)
    parameters = [
        one if _is_plain(one.default) else one.replace(default=_SOMETHING)
        for one in found.parameters.values()
    ]
    text = str(found.replace(parameters=parameters)).replace("'", "").replace("builtins.", "")
    # Annotations that are objects have the names of modules, which differ between Pythons.
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)
    return re.sub(r"\((?:self|cls)(?:, )?", "(", text, count=1)


def _is_plain(default: object) -> bool:
    """Tell whether the text of a default says something, and the same each time."""
    return default is inspect.Parameter.empty or not re.search(r"<|\w\(", repr(default))


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _text(value: object) -> str:
    return (inspect.getdoc(value) or "").strip()


if __name__ == "__main__":
    PAGE.write_text(page())
