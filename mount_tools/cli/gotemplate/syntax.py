"""The grammar of `--format`: from the text of a Go template to a tree of nodes.

Supported: fields, variables, constants, pipelines, parentheses, calls, `if`, `else if`,
`range`, `with`, comments and trim marks.  `define`, `block`, `template`, `break` and
`continue` are refused by name; character constants are not supported.

The error texts are Go's.  Like Go's parser this one limits how deep a template nests, at
100 levels instead of 10,000.

Source: Go `text/template/parse`, `lex.go`, `parse.go` and `node.go`; `strconv/quote.go`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mount_tools.cli.errors import TemplateError
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import NoReturn, TypeAlias

Constant: TypeAlias = "str | int | float | bool | None"


class Literal(NamedTuple):
    value: Constant


class Field(NamedTuple):
    """`.A.B`; no names stand for the dot itself."""

    names: tuple[str, ...]
    columns: tuple[int, ...]


class Variable(NamedTuple):
    """`$x.A.B`; the name is empty for `$`."""

    name: str
    names: tuple[str, ...]
    columns: tuple[int, ...]


class Function(NamedTuple):
    name: str
    column: int


class Nested(NamedTuple):
    """`(pipeline).A.B`."""

    pipe: Pipe
    names: tuple[str, ...]
    columns: tuple[int, ...]


Operand: TypeAlias = "Literal | Field | Variable | Function | Nested"


class Pipe(NamedTuple):
    """Commands, each of which gets the value of the one before as its last argument.

    The variables in `declared` get the value of the last command; `assigns` says that they
    exist already.
    """

    commands: tuple[tuple[Operand, ...], ...]
    declared: tuple[str, ...]
    assigns: bool


class Text(NamedTuple):
    text: str


class Action(NamedTuple):
    pipe: Pipe


class Branch(NamedTuple):
    """`if`, `range` or `with`."""

    keyword: str
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


Node: TypeAlias = "Text | Action | Branch"

ACTION = re.compile(
    r"\{\{(?P<ltrim>-(?=\s))?(?:\s*/\*(?P<comment>.*?)\*/\s*|"
    # No text may match in two ways: else the match of n strings would try 2**n ways.
    r"(?P<inside>(?:\"(?:\\.|[^\"\\\n])*\"|`[^`]*`|(?!\s-\}\}|\}\})[^\"`])*))"
    r"(?P<rtrim>\s-)?\}\}",
    re.DOTALL,
)
TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<string>\"(?:\\.|[^\"\\\n])*\"|`[^`]*`)"
    r"|(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\w*)"
    r"|(?P<field>\.[^\W\d]\w*)"
    r"|(?P<dot>\.)"
    r"|(?P<variable>\$\w*)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<mark>:=|=|\||\(|\)|,)"
)
REFUSED = ("define", "block", "template", "break", "continue")
CONSTANTS: dict[str, Constant] = {"true": True, "false": False, "nil": None}
# Of parentheses and branches: each level nests a few calls, here and in `template`.
MAX_DEPTH = 100
INTEGER_BITS = 64
_STRING = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|`[^`]*`")
_ESCAPE = re.compile(
    r"\\(?:(?P<letter>[abfnrtv\\\"])|(?P<octal>[0-3][0-7]{2})|x(?P<byte>[0-9a-fA-F]{2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<bad>.|$))",
    re.DOTALL,
)
_LETTERS = dict(zip('abfnrtv\\"', '\a\b\f\n\r\t\v\\"', strict=True))


class Token(NamedTuple):
    kind: str
    text: str
    column: int


def parse(template: str) -> tuple[Node, ...]:
    """Return the nodes of a template.  Raises TemplateError if Go refuses it."""
    return _Parser(template).whole()


def _unclosed(rest: str) -> str:
    """Return Go's error for an action that is not closed; `rest` begins with its "{{"."""
    if rest.removeprefix("{{").removeprefix("- ").lstrip().startswith("/*"):
        return "unclosed comment"
    end = _STRING.sub("", rest).partition("}}")[0]
    if '"' in end:
        return "unterminated quoted string"
    return "unterminated raw quoted string" if "`" in end else "unclosed action"


def _unquoted(text: str) -> str:
    """Return what a string constant stands for.  Raises ValueError."""
    if text.startswith("`"):
        return text[1:-1]

    def escaped(match: re.Match[str]) -> str:
        if match["letter"]:
            return _LETTERS[match["letter"]]
        if match["octal"] or match["byte"]:
            code = int(match["octal"], 8) if match["octal"] else int(match["byte"], 16)
            # One byte: only together with its neighbours it may be a character.
            return chr(code) if code < 0x80 else chr(0xDC00 + code)
        code = int(match["short"] or match["long"] or "110000", 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise ValueError
        return chr(code)

    found = _ESCAPE.sub(escaped, text[1:-1])
    return found.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


class _Parser:
    """Reads the pieces of a template, text and actions in turn, and nests what they open."""

    def __init__(self, template: str) -> None:
        self.line = 1
        self.pieces = self._split(template)
        self.line = 1
        self.at = 0
        self.tokens: list[Token] = []
        self.next = 0
        self.depth = 0

    def fail(self, what: str) -> NoReturn:
        raise TemplateError(f"template: :{self.line}: {what}")

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail("max expression depth exceeded")
        yield
        self.depth -= 1

    # -- text and actions --

    def _split(self, template: str) -> list[tuple[int, str | list[Token]]]:
        """Return (line, text or tokens of an action) in order, with trim marks applied."""
        pieces: list[tuple[int, str | list[Token]]] = []
        start, trim = 0, False
        before = line_start = 0
        while (open_at := template.find("{{", start)) >= 0:
            self.line += template.count("\n", before, open_at)
            line_start = max(line_start, template.rfind("\n", before, open_at) + 1)
            before = open_at
            match = ACTION.match(template, open_at)
            if match is None:
                self.fail(_unclosed(template[open_at:]))
            text = template[start:open_at]
            text = text.lstrip() if trim else text
            pieces.append((self.line, text.rstrip() if match["ltrim"] else text))
            if match["comment"] is None:
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
        """Return the nodes up to `end` or `else`, and which of the two ended them."""
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
                with self._deeper():
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
                with self._deeper():
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
        """Read `$x :=`, `$x =` or, in a range, `$i, $x :=` at the start of a pipeline."""
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
            try:
                return Literal(_unquoted(token.text))
            except ValueError:
                self.fail("invalid syntax")
        if token.kind == "number":
            try:
                return Literal(_number(token.text))
            except ValueError as error:
                self.fail(str(error))
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
        with self._deeper():
            pipe = self._pipe("parenthesized pipeline", ")")
        return Nested(pipe, *self._chain())

    def _chain(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Read the `.A.B` that follows, and the column of each."""
        names, columns = [], []
        while self.next < len(self.tokens) and self.tokens[self.next].kind == "field":
            names.append(self.tokens[self.next].text[1:])
            columns.append(self.tokens[self.next].column)
            self.next += 1
        return tuple(names), tuple(columns)


def _number(text: str) -> int | float:
    """Return a number constant.  Raises ValueError in Go's words."""
    digits = text.lstrip("+-")
    prefixed = digits[:2].lower() in ("0x", "0b", "0o")
    base = 0 if prefixed else 8 if digits.startswith("0") and digits.strip("01234567") == "" else 10
    if prefixed or digits.isdecimal():
        # Longer numbers are not converted: that takes quadratic time.
        if len(digits.lstrip("0")) > INTEGER_BITS + 2:
            raise ValueError(f'integer overflow: "{text}"')
        try:
            value = int(text, base)
        except ValueError:
            raise ValueError(f'bad number syntax: "{text}"') from None
        if not -(2 ** (INTEGER_BITS - 1)) <= value < 2 ** (INTEGER_BITS - 1):
            raise ValueError(f'integer overflow: "{text}"')
        return value
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f'bad number syntax: "{text}"') from None
    if math.isinf(number) or "_" in text:
        raise ValueError(f'illegal number syntax: "{text}"')
    return number


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def shown(operand: Operand) -> str:
    """Return an operand as it is written in the template, to quote it in an error."""
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
