"""The grammar of `--format`: Go template text to a tree of nodes.

What is understood: fields, variables, constants, pipelines, parentheses, calls, `if`,
`else if`, `range`, `with`, comments and trim marks.  `define`, `block`, `template`,
`break` and `continue` are refused by name.

Source: Go `text/template/parse`, `lex.go` and `parse.go`, whose error texts these are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from mount_tools.cli.errors import TemplateError

Constant: TypeAlias = "str | int | float | bool | None"


@dataclass(frozen=True)
class Literal:
    value: Constant


@dataclass(frozen=True)
class Field:
    """`.A.B`; no names stand for the dot itself."""

    names: tuple[str, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Variable:
    """`$x.A.B`; the name is empty for `$`."""

    name: str
    names: tuple[str, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Function:
    name: str
    column: int


@dataclass(frozen=True)
class Nested:
    """`(pipeline).A.B`."""

    pipe: Pipe
    names: tuple[str, ...]
    columns: tuple[int, ...]


Operand: TypeAlias = "Literal | Field | Variable | Function | Nested"


@dataclass(frozen=True)
class Pipe:
    """Commands, each given the value of the one before; what is declared gets the last."""

    commands: tuple[tuple[Operand, ...], ...]
    declared: tuple[str, ...]
    assigns: bool


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Action:
    pipe: Pipe


@dataclass(frozen=True)
class Branch:
    """`if`, `range` or `with`."""

    keyword: str
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


Node: TypeAlias = "Text | Action | Branch"

ACTION = re.compile(
    r"\{\{(?P<ltrim>-(?=\s))?(?:\s*/\*(?P<comment>.*?)\*/\s*|"
    r"(?P<inside>(?:\"(?:\\.|[^\"\\\n])*\"|`[^`]*`|'(?:\\.|[^'\\\n])*'|(?!\s-\}\}|\}\}).)*))"
    r"(?P<rtrim>\s-)?\}\}",
    re.DOTALL,
)
TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<string>\"(?:\\.|[^\"\\\n])*\"|`[^`]*`)"
    r"|(?P<char>'(?:\\.|[^'\\\n])+')"
    r"|(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+))"
    r"|(?P<field>\.[^\W\d]\w*)"
    r"|(?P<dot>\.)"
    r"|(?P<variable>\$\w*)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<mark>:=|=|\||\(|\)|,)"
)
REFUSED = ("define", "block", "template", "break", "continue")
CONSTANTS: dict[str, Constant] = {"true": True, "false": False, "nil": None}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    column: int


def parse(template: str) -> tuple[Node, ...]:
    """Return the nodes of a template.  *Raises* TemplateError where Go would."""
    return _Parser(template).whole()


def _unquoted(text: str, line: int) -> str:
    if text.startswith("`"):
        return text[1:-1]
    try:
        return text[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError:
        raise TemplateError(f"template: :{line}: invalid syntax") from None


class _Parser:
    """Reads pieces of the template, text and actions in turn, and nests what they open."""

    def __init__(self, template: str) -> None:
        self.pieces = self._split(template)
        self.at = 0
        self.line = 1
        self.tokens: list[Token] = []
        self.next = 0

    def fail(self, what: str) -> NoReturn:
        raise TemplateError(f"template: :{self.line}: {what}")

    # -- text and actions --

    def _split(self, template: str) -> list[tuple[int, str | list[Token]]]:
        """Return (line, text or tokens of an action) in order, trim marks obeyed."""
        pieces: list[tuple[int, str | list[Token]]] = []
        start, trim = 0, False
        while (open_at := template.find("{{", start)) >= 0:
            self.line = template.count("\n", 0, open_at) + 1
            match = ACTION.match(template, open_at)
            if match is None:
                self.fail("unclosed comment" if "/*" in template[open_at:] else "unclosed action")
            text = template[start:open_at]
            text = text.lstrip() if trim else text
            pieces.append((self.line, text.rstrip() if match["ltrim"] else text))
            if match["comment"] is None:
                line_start = template.rfind("\n", 0, open_at) + 1
                column = match.start("inside") - line_start
                pieces.append((self.line, self._lex(match["inside"], column)))
            start, trim = match.end(), bool(match["rtrim"])
        rest = template[start:]
        pieces.append((template.count("\n") + 1, rest.lstrip() if trim else rest))
        return pieces

    def _lex(self, inside: str, column: int) -> list[Token]:
        if inside.lstrip().startswith("/*"):
            self.fail("unclosed comment")
        tokens, at = [], 0
        while at < len(inside):
            match = TOKEN.match(inside, at)
            if match is None:
                self.fail(f"unexpected {_quoted(inside[at])} in operand")
            kind = str(match.lastgroup)
            tokens.append(Token(kind, match.group(), column + at))
            at = match.end()
        if tokens and tokens[-1].kind == "space":
            del tokens[-1]
        return tokens[1:] if tokens and tokens[0].kind == "space" else tokens

    # -- nesting --

    def whole(self) -> tuple[Node, ...]:
        nodes, ended_by = self._list()
        if ended_by:
            self.fail(f"unexpected {{{{{ended_by}}}}}")
        return nodes

    def _list(self) -> tuple[tuple[Node, ...], str]:
        """Return the nodes up to `end` or `else`, and which of them it was."""
        nodes: list[Node] = []
        while self.at < len(self.pieces):
            self.line, piece = self.pieces[self.at]
            self.at += 1
            if isinstance(piece, str):
                if piece:
                    nodes.append(Text(piece))
                continue
            self.tokens, self.next = piece, 0
            word = piece[0].text if piece and piece[0].kind == "name" else ""
            if word in ("end", "else"):
                self.next = 1
                return tuple(nodes), word
            if word in REFUSED:
                self.fail(f"{{{{{word}}}}} is not supported here")
            if word in ("if", "range", "with"):
                self.next = 1
                nodes.append(self._branch(word))
            else:
                nodes.append(Action(self._pipe("command")))
        return tuple(nodes), ""

    def _branch(self, keyword: str) -> Branch:
        pipe = self._pipe(keyword)
        body, ended_by = self._list()
        otherwise: tuple[Node, ...] = ()
        if ended_by == "else":
            follows = self._peek()
            if follows and follows.text in ("if", "with") and follows.text == keyword:
                self._skip()
                return Branch(keyword, pipe, body, (self._branch(keyword),))
            otherwise, ended_by = self._list()
            if ended_by == "else":
                self.fail("expected end; found {{else}}")
        if ended_by != "end":
            self.fail("unexpected EOF")
        return Branch(keyword, pipe, body, otherwise)

    # -- pipelines --

    def _peek(self) -> Token | None:
        """Return the next token that is not space."""
        while self.next < len(self.tokens) and self.tokens[self.next].kind == "space":
            self.next += 1
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def _skip(self) -> None:
        self._peek()
        self.next += 1

    def _pipe(self, context: str, closing: str = "") -> Pipe:
        declared, assigns = self._declarations(context)
        commands: list[tuple[Operand, ...]] = []
        while True:
            operands = self._command()
            if not operands:
                self.fail(f"missing value for {context}")
            if commands and not isinstance(operands[0], Function):
                self.fail(f"non executable command in pipeline stage {len(commands) + 1}")
            commands.append(operands)
            token = self._peek()
            if token is None and not closing:
                break
            if token is None:
                self.fail("unclosed left paren")
            if token.text == "|":
                self._skip()
            elif closing and token.text == closing:
                self._skip()
                break
            else:
                self.fail(f"unexpected {_quoted(token.text)} in {context}")
        return Pipe(tuple(commands), declared, assigns)

    def _declarations(self, context: str) -> tuple[tuple[str, ...], bool]:
        """Read `$x :=`, `$x =` or, in a range, `$i, $x :=` where the pipeline opens with it."""
        start, names = self.next, []
        while (token := self._peek()) is not None and token.kind == "variable":
            names.append(token.text[1:])
            self._skip()
            token = self._peek()
            if token is not None and token.text in (":=", "="):
                self._skip()
                if len(names) > 1 and (context != "range" or len(names) > 2):
                    self.fail(f"too many declarations in {context}")
                return tuple(names), token.text == "="
            if token is None or token.text != ",":
                break
            self._skip()
        self.next = start
        return (), False

    def _command(self) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while (token := self._peek()) is not None and token.text not in ("|", ")"):
            operands.append(self._operand(token))
            after = self.tokens[self.next] if self.next < len(self.tokens) else None
            if after is not None and after.kind != "space" and after.text not in ("|", ")"):
                self.fail(f"unexpected {_quoted(after.text)} in operand")
        return tuple(operands)

    def _operand(self, token: Token) -> Operand:
        self.next += 1
        if token.kind == "string":
            return Literal(_unquoted(token.text, self.line))
        if token.kind == "char":
            return Literal(ord(_unquoted(token.text, self.line)[:1] or "\0"))
        if token.kind == "number":
            return Literal(_number(token.text))
        if token.kind == "name":
            if token.text in CONSTANTS:
                return Literal(CONSTANTS[token.text])
            return Function(token.text, token.column)
        if token.kind in ("field", "dot"):
            self.next -= token.kind == "field"
            return Field(*self._chain())
        if token.kind == "variable":
            return Variable(token.text[1:], *self._chain())
        if token.text != "(":
            self.fail(f"unexpected {_quoted(token.text)} in operand")
        return Nested(self._pipe("parenthesized pipeline", ")"), *self._chain())

    def _chain(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Read the `.A.B` that follows, and the column of each."""
        names, columns = [], []
        while self.next < len(self.tokens) and self.tokens[self.next].kind == "field":
            names.append(self.tokens[self.next].text[1:])
            columns.append(self.tokens[self.next].column)
            self.next += 1
        return tuple(names), tuple(columns)


def _number(text: str) -> int | float:
    try:
        return int(text, 0)
    except ValueError:
        return int(text) if text.lstrip("+-").isdigit() else float(text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def shown(operand: Operand) -> str:
    """Return an operand as the template has it, for an error."""
    if isinstance(operand, Field):
        return "".join(f".{name}" for name in operand.names) or "."
    if isinstance(operand, Variable):
        return f"${operand.name}" + "".join(f".{name}" for name in operand.names)
    if isinstance(operand, Function):
        return operand.name
    if isinstance(operand, Nested):
        return "(…)" + "".join(f".{name}" for name in operand.names)
    return _quoted(operand.value) if isinstance(operand.value, str) else str(operand.value)


def functions_of(nodes: Sequence[Node]) -> list[str]:
    """Return the names of all functions that `nodes` call."""
    found: list[str] = []

    def of_pipe(pipe: Pipe) -> None:
        for command in pipe.commands:
            for operand in command:
                if isinstance(operand, Function):
                    found.append(operand.name)
                elif isinstance(operand, Nested):
                    of_pipe(operand.pipe)

    for node in nodes:
        if isinstance(node, Action):
            of_pipe(node.pipe)
        elif isinstance(node, Branch):
            of_pipe(node.pipe)
            found.extend(functions_of(node.body))
            found.extend(functions_of(node.otherwise))
    return found
