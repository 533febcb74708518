"""Run a Go template, the argument of `--format`, over a row or an object.

`Template(text)` parses it once; `render` runs it.  Every failure is a TemplateError with
Go's text, so that answers on the web about "template parsing error" apply here too.

Source: Go `text/template/exec.go`.
Differs from Go: values are those of JSON; there are no structs and no methods, and `{{.}}`
of an object prints it as a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mount_tools.cli.errors import TemplateError
from mount_tools.cli.gotemplate.functions import FUNCTIONS, Builtin
from mount_tools.cli.gotemplate.syntax import (
    Action,
    Branch,
    Field,
    Function,
    Literal,
    Nested,
    Node,
    Operand,
    Pipe,
    Text,
    Variable,
    functions_of,
    parse,
    shown,
)
from mount_tools.cli.gotemplate.values import Labels, Row, Struct, Value, go_text, truth, type_name

# These do not evaluate all their operands, so they cannot be in FUNCTIONS.
LAZY = ("and", "or")


class Template:
    """A parsed template, which can be run many times."""

    def __init__(self, text: str) -> None:
        """Raises TemplateError if `text` is not a template or calls an unknown function."""
        self.nodes = parse(text)
        for name in functions_of(self.nodes):
            if name not in FUNCTIONS and name not in LAZY:
                raise TemplateError(f'template: :1: function "{name}" not defined')

    def render(self, data: Value, functions: Mapping[str, Builtin] = FUNCTIONS) -> str:
        """Return the text for `data`.  Raises TemplateError if the template does not fit it."""
        run = _Run(data, functions)
        run.nodes(self.nodes, data)
        return "".join(run.output)


class _Run:
    """One execution: the output so far, and the variables in scope, the innermost last."""

    def __init__(self, data: Value, functions: Mapping[str, Builtin]) -> None:
        self.functions = functions
        self.output: list[str] = []
        self.variables: list[tuple[str, Value]] = [("", data)]

    def fail(self, operand: Operand, column: int, what: str) -> TemplateError:
        return TemplateError(f'template: :1:{column}: executing "" at <{shown(operand)}>: {what}')

    # -- nodes --

    def nodes(self, nodes: Sequence[Node], dot: Value) -> None:
        for node in nodes:
            if isinstance(node, Text):
                self.output.append(node.text)
            elif isinstance(node, Action):
                value = self.pipe(node.pipe, dot)
                if not node.pipe.declared:
                    self.output.append(go_text(value))
            else:
                self.branch(node, dot)

    def branch(self, node: Branch, dot: Value) -> None:
        mark = len(self.variables)
        if node.keyword == "range":
            self.loop(node, dot)
        else:
            value = self.pipe(node.pipe, dot)
            inner = value if node.keyword == "with" else dot
            self.nodes(
                node.body if truth(value) else node.otherwise, inner if truth(value) else dot
            )
        del self.variables[mark:]

    def loop(self, node: Branch, dot: Value) -> None:
        declared = node.pipe.declared
        value = self.pipe(Pipe(node.pipe.commands, (), False), dot)
        pairs: list[tuple[Value, Value]]
        if isinstance(value, Mapping):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            pairs = list(enumerate(value))
        elif value is None:
            pairs = []
        else:
            raise TemplateError(f"range can't iterate over {go_text(value)}")
        for key, item in pairs:
            mark = len(self.variables)
            if declared:
                self.variables.append((declared[-1], item))
            if len(declared) == 2:
                self.variables.append((declared[0], key))
            self.nodes(node.body, item)
            del self.variables[mark:]
        if not pairs:
            self.nodes(node.otherwise, dot)

    # -- pipelines --

    def pipe(self, pipe: Pipe, dot: Value) -> Value:
        value: Value = None
        for stage, command in enumerate(pipe.commands):
            value = self.command(command, dot, (value,) if stage else ())
        for name in pipe.declared:
            if pipe.assigns:
                self.assign(name, value)
            else:
                self.variables.append((name, value))
        return value

    def assign(self, name: str, value: Value) -> None:
        for at in range(len(self.variables) - 1, -1, -1):
            if self.variables[at][0] == name:
                self.variables[at] = (name, value)
                return
        raise TemplateError(f'template: :1: undefined variable "${name}"')

    def command(self, operands: Sequence[Operand], dot: Value, final: tuple[Value, ...]) -> Value:
        first = operands[0]
        if not isinstance(first, Function):
            if len(operands) > 1:
                raise TemplateError(
                    f"template: :1: can't give argument to non-function {shown(first)}"
                )
            return self.operand(first, dot)
        if first.name in LAZY:
            return self.lazy(first, operands[1:], dot, final)
        return self.call(first, [self.operand(one, dot) for one in operands[1:]] + list(final))

    def lazy(
        self, function: Function, operands: Sequence[Operand], dot: Value, final: tuple[Value, ...]
    ) -> Value:
        """Return the first operand that decides `and` or `or`, or the last one.

        The operands after it are not evaluated: they may be valid only if it does not decide.
        """
        if not operands and not final:
            what = f"wrong number of args for {function.name}: want at least 1 got 0"
            raise self.fail(function, function.column, what)
        value: Value = None
        for operand in operands:
            value = self.operand(operand, dot)
            if truth(value) is (function.name == "or"):
                return value
        return final[0] if final else value

    def call(self, function: Function, arguments: list[Value]) -> Value:
        builtin = self.functions[function.name]
        try:
            builtin.check(function.name, arguments)
        except TemplateError as error:
            raise self.fail(function, function.column, str(error)) from None
        try:
            return builtin(*arguments)
        except TemplateError as error:
            what = f"error calling {function.name}: {error}"
            raise self.fail(function, function.column, what) from None

    def operand(self, operand: Operand, dot: Value) -> Value:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Field):
            return self.fields(operand, dot)
        if isinstance(operand, Nested):
            return self.fields(operand, self.pipe(operand.pipe, dot))
        if isinstance(operand, Function):
            return self.command((operand,), dot, ())
        for name, value in reversed(self.variables):
            if name == operand.name:
                return self.fields(operand, value)
        raise TemplateError(f'template: :1: undefined variable "${operand.name}"')

    def fields(self, operand: Field | Variable | Nested, value: Value) -> Value:
        for name, column in zip(operand.names, operand.columns, strict=True):
            if isinstance(value, Row) and name not in value:
                what = f"can't evaluate field {name} in type {type_name(value)}"
                raise self.fail(operand, column, what)
            if isinstance(value, Struct) and name in value.omitted and name not in value:
                value = value.omitted[name]
            elif isinstance(value, Mapping):
                if name not in value and not isinstance(value, Labels):
                    raise self.fail(operand, column, f'map has no entry for key "{name}"')
                value = value.get(name)
            elif value is None:
                what = f"nil pointer evaluating interface {{}}.{name}"
                raise self.fail(operand, column, what)
            else:
                what = f"can't evaluate field {name} in type {type_name(value)}"
                raise self.fail(operand, column, what)
        return value
