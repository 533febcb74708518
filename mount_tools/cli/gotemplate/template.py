"""`--format`: running a Go template over a row or an object.

`Template(text)` reads it once; `render` runs it.  All that goes wrong is a
TemplateError, whose text follows Go's, so that what people find in the web
about "template parsing error" fits.

Source: Go `text/template/exec.go`.
Differs from Go: a value is JSON's; structs and methods there are none, and `{{.}}`
of an object prints it as a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mount_tools.cli.errors import TemplateError
from mount_tools.cli.gotemplate.functions import (
    FUNCTIONS,
    Callee,
    Labels,
    Row,
    Value,
    go_text,
    truth,
    type_name,
)
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


class Template:
    """A template ready to run, as often as there are rows."""

    def __init__(self, text: str) -> None:
        """*Raises* TemplateError where `text` is no template or calls what there is not."""
        self.nodes = parse(text)
        for name in functions_of(self.nodes):
            if name not in FUNCTIONS and name not in ("and", "or"):
                raise TemplateError(f'template: :1: function "{name}" not defined')

    def render(self, data: Value, functions: Mapping[str, Callee] = FUNCTIONS) -> str:
        run = _Run(data, functions)
        run.nodes(self.nodes, data)
        return "".join(run.output)


class _Run:
    """One execution: what has been written, and the variables in sight, innermost last."""

    def __init__(self, data: Value, functions: Mapping[str, Callee]) -> None:
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
        if first.name in ("and", "or"):
            # Later operands may only make sense where the earlier ones let them be looked at.
            value: Value = None
            for operand in operands[1:]:
                value = self.operand(operand, dot)
                if truth(value) is (first.name == "or"):
                    return value
            return final[0] if final else value
        return self.call(first, [self.operand(one, dot) for one in operands[1:]] + list(final))

    def call(self, function: Function, arguments: list[Value]) -> Value:
        try:
            return self.functions[function.name](*arguments)
        except TemplateError as error:
            what = f"error calling {function.name}: {error}"
        except TypeError:
            what = f"wrong number of args for {function.name}, or of the wrong type"
        except AttributeError:
            what = f"wrong type for value; {function.name} wants a string"
        raise self.fail(function, function.column, what)

    def operand(self, operand: Operand, dot: Value) -> Value:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Field):
            return self.fields(operand, dot)
        if isinstance(operand, Nested):
            return self.fields(operand, self.pipe(operand.pipe, dot))
        if isinstance(operand, Function):
            return self.call(operand, [])
        for name, value in reversed(self.variables):
            if name == operand.name:
                return self.fields(operand, value)
        raise TemplateError(f'template: :1: undefined variable "${operand.name}"')

    def fields(self, operand: Field | Variable | Nested, value: Value) -> Value:
        for name, column in zip(operand.names, operand.columns, strict=True):
            if isinstance(value, Row) and name not in value:
                what = f"can't evaluate field {name} in type {type_name(value)}"
                raise self.fail(operand, column, what)
            if isinstance(value, Mapping):
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
