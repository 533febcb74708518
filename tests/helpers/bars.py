"""What a bar that rich drew says."""

from __future__ import annotations

import re


def bar_of(name: str, text: str) -> str:
    """Return the amount, as `5/10 bytes`, in the last line of `text` that begins with `name`."""
    found = re.findall(rf"^{re.escape(name)}.* (\S+/\S+ \S+)", text, re.MULTILINE)
    assert found, text
    return str(found[-1])
