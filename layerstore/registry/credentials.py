"""Credentials: a name and a secret for a registry, and what finds them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from unionfs.light_typing import Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name with a password, or an identity token, which replaces both.

    The repr of this object does not show the secret.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of `Authorization` for the scheme Basic."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


class CredentialSource(Protocol):
    """What finds the credentials for a registry."""

    def find(self, host: str, path: str = "") -> Credentials | None:
        """Return what to log in at `host` with, for the repository `path`."""


@dataclass(frozen=True, slots=True)
class OneLogin:
    """A source of the same credentials for each host, or of none."""

    credentials: Credentials | None = None

    def find(self, host: str, path: str = "") -> Credentials | None:
        return self.credentials
