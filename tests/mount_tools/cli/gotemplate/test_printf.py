"""`printf` prints what Go's does, and what does not fit in Go's way."""

from __future__ import annotations

import pytest

from mount_tools.cli.gotemplate.printf import sprintf
from mount_tools.cli.gotemplate.values import Value


@pytest.mark.parametrize(
    ("template", "arguments", "result"),
    [
        ("%s-%05d|%-4s|%v %t%%", ("a", 7, "b", ["x"], True), "a-00007|b   |[x] true%"),
        ("%q", ('a"b',), '"a\\"b"'),
        ("%x %X %o", (255, 255, 8), "ff FF 10"),
        ("%6.2f|%e", (1.5, 1.5), "  1.50|1.500000e+00"),
        ("%*d|%-*d|%*d", (4, 1, 4, 1, -4, 1), "   1|1   |1   "),
        ("%.*s", (2, "abc"), "ab"),
        ("%.2s", ("abc",), "ab"),
        ("%d", ("a",), "%!d(string=a)"),
        ("%d", (True,), "%!d(bool=true)"),
        ("%d", (1.5,), "%!d(float64=1.5)"),
        ("%f", (1,), "%!f(int=1)"),
        ("%z", (1,), "%!z(int=1)"),
        ("%s %s", ("a",), "a %!s(MISSING)"),
        ("%s", ("a", 1, "b"), "a%!(EXTRA int=1, string=b)"),
        ("%", (), "%!(NOVERB)"),
        ("100%", (), "100%!(NOVERB)"),
        ("%1000001d", (1,), "%!(NOVERB)%!(EXTRA int=1)"),
        ("%.1000001d", (1,), "%!(NOVERB)%!(EXTRA int=1)"),
        (f"%{'9' * 5_000}d", (1,), "%!(NOVERB)%!(EXTRA int=1)"),
        ("%*d", (1_000_001, 1), "%!(BADWIDTH)1"),
        ("%*d", ("a", 1), "%!(BADWIDTH)1"),
        ("%.*d", (1_000_001, 1), "%!(BADPREC)1"),
        ("%*d", (), "%!(BADWIDTH)%!d(MISSING)"),
        ("%\N{ARABIC-INDIC DIGIT THREE}d", (1,), "%!\N{ARABIC-INDIC DIGIT THREE}(int=1)d"),
    ],
)
def test_printf(template: str, arguments: tuple[Value, ...], result: str) -> None:
    assert sprintf(template, *arguments) == result


def test_the_widest_field() -> None:
    assert len(sprintf("%1000000d", 1)) == 1_000_000
