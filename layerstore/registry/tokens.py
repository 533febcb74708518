"""Bearer tokens: what they allow, how long they last, and what a token server answers.

Source: distribution docs, spec/auth/{token,oauth,scope}.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from layerstore.errors import InvalidImage
from layerstore.oci.json_values import Object, parse_document, text_of
from layerstore.oci.timestamps import parse_timestamp
from layerstore.registry.errors import BadAnswer

_LEAST = 60.0  # seconds that a token lasts if the server says fewer, or says nothing
_EARLY = 10.0  # seconds before a token expires at which it is no longer used


CATALOG = "registry:catalog:*"


def pull_scope(repository: str) -> str:
    """Return the scope of reading a repository."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """Return the scope of writing a repository, which includes reading it."""
    return f"repository:{repository}:pull,push"


def merged(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes in order, with all actions on one resource in one scope."""
    actions: dict[str, set[str]] = {}
    for scope in scopes:
        resource, colon, listed = scope.rpartition(":")
        if colon:
            actions.setdefault(resource, set()).update(filter(None, listed.split(",")))
    return tuple(
        f"{resource}:{','.join(sorted(actions[resource]))}" for resource in sorted(actions)
    )


@dataclass(frozen=True, slots=True)
class Token:
    """A token for `Authorization: Bearer`; `until` is on the monotonic clock, in seconds."""

    text: str = field(repr=False)
    until: float
    refresh: str = field(default="", repr=False)

    def is_fresh(self, now: float) -> bool:
        """Tell whether the token can be used at `now`."""
        return now < self.until - _EARLY


def parse_token(data: bytes, host: str, now: float, wall: float | None = None) -> Token:
    """Return the token in the answer of the token server `host`; raises BadAnswer."""
    try:
        fields = parse_document(data, "answer")
        text = text_of(fields, "token") or text_of(fields, "access_token")
        refresh = text_of(fields, "refresh_token")
        lasts = _lasts(fields, time.time() if wall is None else wall)
    except InvalidImage:
        raise BadAnswer(
            f"the token server {host} answered with something else than a token", host
        ) from None
    if not text or not (text + refresh).isascii() or not (text + refresh).isprintable():
        raise BadAnswer(f"the token server {host} answered without a token", host)
    return Token(text, now + lasts, refresh)


def _lasts(fields: Object, wall: float) -> float:
    """Return for how many seconds the token is still good."""
    said = fields.get("expires_in")
    lasts = float(said) if isinstance(said, int | float) and not isinstance(said, bool) else _LEAST
    lasts = max(lasts, _LEAST)
    issued = text_of(fields, "issued_at")
    if issued:
        try:
            age = wall - parse_timestamp(issued) / 1e9
        except InvalidImage:
            return lasts
        # A clock that is wrong must not make a token useless, nor eternal.
        if 0 <= age < lasts - _EARLY:
            lasts -= age
    return lasts
