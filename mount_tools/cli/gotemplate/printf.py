"""Go's `printf` as far as templates need it: flags, width, precision, `*` and the usual verbs.

An argument that does not fit its verb is no error: as in Go, it prints `%!d(string=a)`.

Source: Go `fmt/print.go` (doPrintf, parsenum, intFromArg), `fmt/doc.go`.
"""

from __future__ import annotations

import re

from mount_tools.cli.gotemplate.values import Value, go_json, go_text, is_integer, type_name

# Go refuses wider fields than this: tooLarge() in fmt/print.go.
MAX_WIDTH = 1_000_000

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\*|[0-9]*)(?P<precision>\.(?:\*|[0-9]*))?(?P<verb>.?)",
    re.DOTALL | re.ASCII,
)


class _BadNumber(Exception):
    """A width or precision is too large or not an integer; the text is Go's."""


class _Arguments:
    """The arguments of one call, taken one after the other."""

    def __init__(self, values: tuple[Value, ...]) -> None:
        self.left = list(values)

    def number(self, text: str, problem: str) -> int:
        """Return the width or precision `text`, which `*` takes from the arguments."""
        if text == "*":
            value = self.left.pop(0) if self.left else None
            if not isinstance(value, int) or not is_integer(value) or abs(value) > MAX_WIDTH:
                raise _BadNumber(problem)
            return value
        if len(text.lstrip("0")) > 7 or int(text) > MAX_WIDTH:
            raise _BadNumber("%!(NOVERB)")
        return int(text)


def sprintf(template: str, *values: Value) -> str:
    """Return `template` with its verbs replaced by `values`."""
    arguments = _Arguments(values)
    text = _VERB.sub(lambda match: _formatted(match, arguments), template)
    if arguments.left:
        extra = ", ".join(f"{type_name(one)}={go_text(one)}" for one in arguments.left)
        text += f"%!(EXTRA {extra})"
    return text


def _formatted(match: re.Match[str], arguments: _Arguments) -> str:
    verb = match["verb"]
    flags, spec, problem = match["flags"], "", ""
    try:
        if match["width"]:
            width = arguments.number(match["width"], "%!(BADWIDTH)")
            flags += "-" if width < 0 else ""
            spec = str(abs(width))
    except _BadNumber as error:
        problem = str(error)
    try:
        if match["precision"] is not None:
            precision = arguments.number(match["precision"][1:] or "0", "%!(BADPREC)")
            spec += f".{precision}" if precision >= 0 else ""
    except _BadNumber as error:
        problem += str(error)
    if problem == "%!(NOVERB)" or not verb:
        return "%!(NOVERB)"
    if verb == "%":
        return "%"
    if not arguments.left:
        return f"{problem}%!{verb}(MISSING)"
    return problem + _one(f"%{flags}{spec}", verb, arguments.left.pop(0))


def _one(spec: str, verb: str, value: Value) -> str:
    if verb in "sv":
        return (spec + "s") % go_text(value)
    if verb == "q" and isinstance(value, str):
        return (spec + "s") % go_json(value)
    if verb == "t" and isinstance(value, bool):
        return (spec + "s") % go_text(value)
    if verb in "doxX" and is_integer(value):
        return str((spec + verb) % value)
    if verb in "eEfFgG" and isinstance(value, float):
        return str((spec + verb) % value)
    return f"%!{verb}({type_name(value)}={go_text(value)})"
