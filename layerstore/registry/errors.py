"""What can go wrong with a registry: one class for each kind, one sentence for each case.

A caller that reacts to a failure catches its class.  The text says what failed, at
which host, and what to do about it; it never holds a password or a token.  What a
registry says itself comes through `shown`, so it cannot write to the terminal.
"""

from __future__ import annotations

from layerstore.errors import DigestMismatch, NotFound, SizeMismatch, StoreError


class RegistryError(StoreError):
    """A request to a registry failed; `host` is the registry, "" if none was asked."""

    def __init__(self, text: str, host: str = "") -> None:
        super().__init__(text)
        self.host = host


class Unreachable(RegistryError):
    """No connection, or it broke: trying again later, or at a mirror, may work."""


class NoConnection(Unreachable):
    """The host has no address, or nothing there takes connections."""


class NotTls(NoConnection):
    """The host answers on its port, but not in TLS: it may speak plain HTTP."""


class TlsFailed(NoConnection):
    """The host speaks TLS, but the handshake failed."""


class CertificateRefused(TlsFailed):
    """This machine does not trust the host's certificate, or the host refuses the client's."""


class Interrupted(Unreachable):
    """The connection was closed before the answer, or the end of it, came."""


class TooSlow(Unreachable):
    """The host sent nothing, or nearly nothing, for too long."""


class ServerFailed(Unreachable):
    """The registry answered with an error of its own (5xx); `status` is the code."""

    def __init__(self, text: str, host: str, status: int) -> None:
        super().__init__(text, host)
        self.status = status


class RateLimited(RegistryError):
    """The registry takes no more requests for now (429).

    `retry_after` is the number of seconds it asks to wait, None if it does not say.
    """

    def __init__(self, text: str, host: str, retry_after: float | None = None) -> None:
        super().__init__(text, host)
        self.retry_after = retry_after


class PullLimit(RateLimited):
    """This account or address has reached its limit of pulls for the current period."""


class Unauthorized(RegistryError):
    """The registry wants a login, or refused the credentials that it got."""


class Denied(RegistryError):
    """The account may not do this, or the repository does not exist (403)."""


class Missing(RegistryError, NotFound):
    """The registry does not have what was asked for."""


class RepositoryUnknown(Missing):
    """The registry has no such repository."""


class ManifestUnknown(Missing):
    """The repository has no manifest of that tag or digest."""


class BlobUnknown(Missing):
    """The repository has no such blob."""


class BadAnswer(RegistryError):
    """The answer of the registry violates the protocol or contradicts itself.

    `advice` says what to do, "" if `text` says it.
    """

    def __init__(
        self,
        text: str,
        host: str = "",
        *,
        advice: str = "if that stays so, the registry has to be repaired",
    ) -> None:
        super().__init__(f"{text}; {advice}" if advice else text, host)


class WrongContent(BadAnswer, DigestMismatch):
    """The registry sent content whose digest is not the one asked for."""


class WrongSize(BadAnswer, SizeMismatch):
    """The registry sent more or less than the descriptor of the content says."""


class TooLarge(BadAnswer):
    """A document of the registry is larger than any that an image has."""


class UnsafeRedirect(BadAnswer):
    """A redirect, or the address of a token server, leads to a forbidden address."""


class Refused(RegistryError):
    """The registry refused a request because of its content (4xx); the text says why."""


class UploadInvalid(Refused):
    """The registry refused the content of an upload."""


class UploadLost(UploadInvalid):
    """The registry no longer knows an upload; the upload has to start again."""


class Blocked(RegistryError):
    """The configuration of this machine forbids the registry."""


class BadConfiguration(RegistryError):
    """A file that configures registries cannot be understood; the text names it."""


class HelperFailed(RegistryError):
    """A credential helper is missing or failed."""


class Cancelled(RegistryError):
    """The client was told to stop."""
