"""The shape of the house: what the setup promises, the imports and the sizes."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirror import untested

TOP = Path(__file__).resolve().parent.parent
PRODUCT = ("unionfs", "layerstore", "mount_tools")
MODULES = sorted(module for name in PRODUCT for module in (TOP / name).rglob("*.py"))
BENCHMARKS = sorted((TOP / "benchmarks").rglob("*.py"))
TESTS = sorted((TOP / "tests").rglob("*.py"))

# Names with an underscore that their libraries document for everybody.
DOCUMENTED = {
    *("_asdict", "_field_defaults", "_fields", "_make", "_replace"),  # of every named tuple
    "_exit",  # of os: end a child without what the parent has registered
    "_getframe",  # of sys
    "_typeshed",  # the types of the standard library
}
# What a module uses of another one although it is private there.
SEAMS = {
    # The attributes of `collections.namedtuple`, which take half the time of a property.
    ("unionfs/light_typing.py", "_collections"),
    ("unionfs/light_typing.py", "_tuplegetter"),
    # What the module socket is made of, without what takes its import 1.3 ms.
    ("unionfs/light_socket.py", "_socket"),
    # A union's face has no place for its tables and caches.  Tests have to see that they do
    # not grow, and to empty them.
    ("tests/helpers/unions.py", "_state"),
    # The list may hold no name that the package does not offer; nobody else asks for it.
    ("tests/unionfs/test_face.py", "_HOME"),
}


# What other programs and the libraries beneath call.
FOR_OTHERS = {
    # Of lists that are complete: types of files, opcodes and flags of FUSE.
    *("DT_FIFO", "DT_CHR", "DT_BLK", "DT_SOCK"),
    *("ACCESS", "DESTROY", "EXPORT_SUPPORT", "WRITEBACK_CACHE"),
    # click calls them.
    *("format_completion", "get_command", "list_commands", "resolve_command"),
    *("shell_complete", "source_template"),
    *("ping", "upload_blob"),  # of the client of registries, which is a library
}


def offered(tree: ast.Module) -> Iterator[str]:
    """Yield the functions, classes, methods and constants of a module, without the special ones."""
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for each in (node, *inner):
            match each:
                case ast.Assign(targets=targets):
                    names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    names = [name]
                case ast.ClassDef(name=name):
                    names = [name]
                case _:
                    names = []
            yield from (name for name in names if not name.startswith("__"))


# Where such a name may be: most modules need not be parsed.
_MAY_REACH = re.compile(
    r"(?<!\bself)(?<!\bcls)\._[a-zA-Z]"
    r"|\bimport\b.*\b_[a-z]|^ +_\w+,?$"
    r"|[\"'][\w.]*\b_[a-z]\w*[\"']",
    re.MULTILINE,
)


def reaches(source: str) -> Iterator[tuple[int, str]]:
    """Yield each private name that a module uses without having defined it, with the line."""
    if not _MAY_REACH.search(source):
        return
    tree = ast.parse(source)
    own = {name for node in ast.walk(tree) for name in defined(node)}
    for node in ast.walk(tree):
        for name in used(node):
            if name.startswith("_") and not name.startswith("__") and name not in own:
                yield node.lineno, name  # type: ignore[attr-defined]  # `used` knows only such nodes


def defined(node: ast.AST) -> Iterator[str]:
    """Yield the names that `node` defines, for the module or in a class."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
            yield name


def used(node: ast.AST) -> Iterator[str]:
    """Yield the names that `node` uses of something else: of a module or of an object."""
    match node:
        case ast.ImportFrom(module=module, names=names):
            yield from (module or "").split(".")
            yield from (alias.name for alias in names)
        case ast.Attribute(value=ast.Name(id="self" | "cls")):
            pass
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super"))):
            pass
        case ast.Attribute(attr=name):
            yield name
        case ast.Call(func=ast.Attribute(attr="setattr" | "delattr"), args=arguments):
            for argument in arguments[:2]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value.rpartition(".")[2]


def test_imports_keep_their_contracts() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    if not lint_imports.exists():
        pytest.skip("import-linter is not installed; `make lint` runs it too")
    done = subprocess.run([lint_imports], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_programs_import_nothing_else() -> None:
    """What pip writes for an entry point imports re before anything of ours."""
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")
    assert "options.entry_points" not in setup
    for program in setup["options"]["scripts"].split():
        source = (TOP / program).read_text()
        imports = [node for node in ast.parse(source).body if isinstance(node, ast.Import)]
        ours = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
        assert [ast.unparse(node) for node in imports] == ["import _signal", "import sys"]
        assert len(ours) == 1


def test_every_package_is_installed() -> None:
    """setup.cfg installs each folder that is a package; without __init__.py it is none."""
    assert all((module.parent / "__init__.py").exists() for module in MODULES)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in `node`, the inner ones too, but no expressions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from statements(child)


def test_modules_say_what_they_decide_and_stay_small() -> None:
    wrong: list[str] = []
    for module in MODULES + BENCHMARKS:
        name = module.relative_to(TOP)
        source = module.read_text()
        tree = ast.parse(source)
        if not ast.get_docstring(tree):
            wrong.append(f"{name}: no module docstring")
        if source.count("\n") > 600:
            wrong.append(f"{name}: split it by concern")
        for node in statements(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= 60:
                    wrong.append(f"{name}: {node.name} is too long")
    assert not wrong


def test_no_module_uses_what_another_one_calls_private() -> None:
    wrong = [
        f"{name}:{line}: {private}"
        for name in (str(module.relative_to(TOP)) for module in MODULES + BENCHMARKS + TESTS)
        for line, private in reaches((TOP / name).read_text())
        if private not in DOCUMENTED and (name, private) not in SEAMS
    ]
    assert not wrong, "go through what is public, or make it so"


@pytest.mark.parametrize(
    "source",
    [
        "from a import _b",
        "from a import (\n    c,\n    _b,\n)",
        "from a._b import c",
        "a._b",
        "self.a._b",
        "monkeypatch.setattr('a._b', 1)",
        "monkeypatch.setattr(a, '_b', 1)",
    ],
)
def test_a_reach_into_a_private_is_found(source: str) -> None:
    assert [name for _, name in reaches(source)] == ["_b"]


@pytest.mark.parametrize(
    "source",
    [
        "class Own:\n    def __init__(self):\n        self._b = 1\nOwn()._b",
        "self._b",
        "super()._b",
        "a.__dict__",
    ],
)
def test_what_is_its_own_is_no_reach(source: str) -> None:
    assert not list(reaches(source))


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (r"Error\(\s*errno\.\w+,\s*os\.strerror", "unionfs.errors.fs_error"),
        (r"\brmtree\b", "layerstore.db.staging.remove_tree, which no depth of a tree stops"),
        (r"\bMS_\w+ = ", "unionfs.syscalls.mount"),
        (r"\b_?NS = \d", "unionfs.types.NS"),
    ],
)
def test_what_has_a_home_is_not_made_again(what: str, instead: str) -> None:
    home = ("unionfs/errors.py", "unionfs/types.py", "unionfs/syscalls/mount.py")
    again = [
        f"{module.relative_to(TOP)}: {found.group()}"
        for module in MODULES
        if str(module.relative_to(TOP)) not in home
        for found in re.finditer(what, module.read_text())
    ]
    assert not again, f"use {instead}"


def test_nothing_is_there_for_tests_alone() -> None:
    """A name that the product and its benchmarks write only once is used nowhere."""
    written = Counter(
        word for module in MODULES + BENCHMARKS for word in re.findall(r"\w+", module.read_text())
    )
    unused = [
        f"{module.relative_to(TOP)}: {name}"
        for module in MODULES
        for name in offered(ast.parse(module.read_text()))
        if written[name] == 1 and name not in FOR_OTHERS
    ]
    assert not unused


def test_every_module_has_a_test_of_its_own() -> None:
    assert untested() == [], "see `python -m tests.mirror`"


def test_readme_names_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", (TOP / "README.md").read_text()))
    assert named <= targets
    assert {"demo", "test"} <= named
