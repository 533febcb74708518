"""How often a failed request is sent again, and after how long.

This module alone decides that.  The client follows the host's `Retry-After` if it is short
enough; a pull limit lasts for hours, so the client does not wait for it.  The waits double,
and have a random part so that many clients do not come back at the same moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from layerstore.registry.errors import (
    NoConnection,
    NotTls,
    PullLimit,
    RateLimited,
    RegistryError,
    TlsFailed,
    Unreachable,
)

Notice = Callable[[float, RegistryError], None]
"""Called before a wait, with its seconds and what it is for."""


@dataclass(frozen=True, slots=True)
class Retries:
    """`tries` in all for one thing; waits of `first` seconds, doubled up to `longest`."""

    tries: int = 5
    first: float = 1.0
    longest: float = 60.0

    def wait(self, failed: int, error: RegistryError, *, answered: bool = False) -> float | None:
        """Return the seconds to wait after the `failed`th failure; None to give up.

        `answered` says that the host has answered before: then it is only away for a while.
        """
        if failed >= self.tries or isinstance(error, PullLimit | TlsFailed | NotTls):
            return None
        if isinstance(error, NoConnection) and not answered:
            return None
        if isinstance(error, RateLimited) and error.retry_after is not None:
            asked = error.retry_after
            return asked if asked <= self.longest else None
        if not isinstance(error, Unreachable | RateLimited):
            return None
        return min(self.first * 2.0 ** (failed - 1), self.longest) * random.uniform(0.75, 1.25)
