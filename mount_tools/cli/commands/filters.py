"""`--filter`: which filters a command knows, and what their values mean.

Source: moby `api/types/filters/parse.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from layerstore.errors import StoreError

BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def gathered(wanted: Iterable[tuple[str, str]], known: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of each filter.  Raises StoreError for one that is not `known`."""
    found: dict[str, list[str]] = {}
    for name, value in wanted:
        if name not in known:
            raise StoreError(f"Invalid filter '{name}'")
        found.setdefault(name, []).append(value)
    return found


def boolean(name: str, values: list[str]) -> bool:
    """Return the boolean that all `values` agree on.  Raises StoreError."""
    meant = {BOOLEANS.get(value.lower()) for value in values}
    if len(meant) == 1 and (truth := meant.pop()) is not None:
        return truth
    raise StoreError(f"Invalid filter '{name}=[{' '.join(values)}]'")


def single(name: str, asked: Mapping[str, list[str]]) -> str | None:
    """Return the value of a filter that takes only one.  Raises StoreError."""
    values = asked.get(name, [])
    if len(values) > 1:
        raise StoreError(f"the filter '{name}' can be given only once")
    return values[0] if values else None


def label_pairs(values: Iterable[str]) -> tuple[tuple[str, str | None], ...]:
    """Return `name` and `name=value` as pairs, None standing for any value."""
    parted = (value.partition("=") for value in values)
    return tuple((name, value if equals else None) for name, equals, value in parted)
