"""The error for an answer that is not a success, from its status and its code.

The code in the body decides if there is one, because registries do not agree on the
status.  The error contains the text of the registry.

Source: distribution-spec "Error codes"; docker's docs on the pull limits of Docker Hub.
"""

from __future__ import annotations

from layerstore.errors import InvalidImage, shown
from layerstore.oci.json_values import parse_json
from layerstore.registry.endpoints import login_command
from layerstore.registry.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    Missing,
    PullLimit,
    RateLimited,
    Refused,
    RegistryError,
    RepositoryUnknown,
    ServerFailed,
    UploadInvalid,
    UploadLost,
)
from layerstore.registry.headers import retry_after
from layerstore.registry.transport import Answer, read_all
from unionfs.light_typing import NamedTuple

_LARGEST = 64 << 10  # bytes of a body that explains an error

_UPLOAD_CODES = ("BLOB_UPLOAD_INVALID", "DIGEST_INVALID", "SIZE_INVALID")
_MISSING: dict[str, type[Missing]] = {
    "NAME_UNKNOWN": RepositoryUnknown,
    "MANIFEST_UNKNOWN": ManifestUnknown,
    "BLOB_UNKNOWN": BlobUnknown,
}


class Explanation(NamedTuple):
    """The body of an error: its first code, "" without one, and its text."""

    code: str
    text: str


def explanation(answer: Answer) -> Explanation:
    """Return the explanation in the body of `answer`; empty if it does not follow the spec."""
    try:
        data = read_all(answer, _LARGEST)
        found = parse_json(data or b"", "answer")
    except (InvalidImage, RegistryError):
        return Explanation("", "")
    if not isinstance(found, dict):
        return Explanation("", "")
    errors = found.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else found
    if not isinstance(first, dict):
        return Explanation("", "")
    code, message = first.get("code"), first.get("message")
    return Explanation(
        code.upper() if isinstance(code, str) else "",
        shown(message.strip()) if isinstance(message, str) else "",
    )


def failure(
    answer: Answer,
    host: str,
    what: str,
    missing: type[Missing | UploadLost] = Missing,
    image: str = "",
) -> RegistryError:
    """Return the error that `answer` means.

    `what` names the thing that was requested, as in "the manifest x/y:latest"; `missing` is
    the class of the error for an answer 404 without a code.  `image` is the name of the
    requested image, for docker's message.
    """
    said = explanation(answer)
    reason = f": {said.text}" if said.text else ""
    status = answer.status
    if status == 429 or said.code == "TOOMANYREQUESTS":
        return _limited(answer, host, what, said)
    kind = _MISSING.get(said.code, missing)
    if status == 404 and image and kind is ManifestUnknown:
        reason = reason or ": manifest unknown"
        return kind(f"manifest for {image} not found: manifest unknown{reason}", host)
    if said.code in _MISSING and status in (400, 404):
        return _not_there(_MISSING[said.code], host, what, reason)
    if status == 403 or said.code == "DENIED":
        return Denied(
            f"{host} denies {what}{reason or ' (403)'}: the account may not use it, or it does not "
            f"exist; `{login_command(host)}` changes the account",
            host,
        )
    if said.code in _UPLOAD_CODES:
        return UploadInvalid(f"{host} refused {what}{reason}", host)
    if said.code == "BLOB_UPLOAD_UNKNOWN":
        return UploadLost(f"{host} no longer knows {what}: the upload has to start again", host)
    if status == 404:
        return _not_there(missing, host, what, reason)
    if status >= 500:
        return ServerFailed(
            f"{host} failed with {status} for {what}{reason}; it may work later", host, status
        )
    return Refused(f"{host} refused {what} with {status}{reason}", host)


def _not_there(
    kind: type[Missing | UploadLost], host: str, what: str, reason: str
) -> RegistryError:
    advice = "; the image has to be pushed again" if kind is BlobUnknown else ""
    return kind(f"{host} does not have {what}{reason}{advice}", host)


def _limited(answer: Answer, host: str, what: str, said: Explanation) -> RateLimited:
    seconds = retry_after(answer.headers.get("Retry-After"))
    when = f"in {round(seconds)} seconds" if seconds else "later"
    # Docker Hub uses 429 for the pull limit and for the limit against abuse.  Only the text
    # and a header, which the limit against abuse does not send, tell them apart.
    counted = answer.headers.get("Docker-RateLimit-Source") or answer.headers.get("RateLimit-Limit")
    if counted or "pull rate limit" in said.text.lower():
        return PullLimit(
            f"the pull limit of {host} is reached for this account or address: log in with "
            f"`{login_command(host)}` for a higher one, or try {when}",
            host,
            seconds,
        )
    return RateLimited(f"{host} takes no more requests for now: try {what} {when}", host, seconds)
