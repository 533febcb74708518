"""Credential helpers: programs that keep secrets, in the keyring of a desktop or a cloud.

A helper `NAME` is the program `docker-credential-NAME`, which reads from its standard
input and answers in JSON, so that a secret is never in the arguments of a process.  An
error never repeats the output of a helper, which may contain a secret.

Source: docker-credential-helpers, README "Development"; docker's docs on `credsStore`.
"""

from __future__ import annotations

import json
import re
import subprocess

from layerstore.errors import InvalidImage
from layerstore.oci.json_values import parse_document, text_of
from layerstore.registry.credentials import Credentials
from layerstore.registry.errors import HelperFailed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NONE = b"credentials not found"
_TOKEN_USER = "<token>"
_LONGEST = 120.0  # seconds: a helper may ask its user


def get(helper: str, server: str) -> Credentials | None:
    """Return the credentials that `helper` has for `server`, or None; raises HelperFailed."""
    code, output = _run(helper, "get", server.encode())
    if code:
        if _NONE in output:
            return None
        raise _failed(helper, "get", server, code)
    try:
        fields = parse_document(output, "answer")
        user, secret = text_of(fields, "Username"), text_of(fields, "Secret")
    except InvalidImage:
        raise HelperFailed(
            f"docker-credential-{helper} answered with something else than credentials for {server}"
        ) from None
    if user == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(user, secret)


def store(helper: str, server: str, credentials: Credentials) -> None:
    """Give the credentials for `server` to `helper`; raises HelperFailed."""
    fields = {
        "ServerURL": server,
        "Username": _TOKEN_USER if credentials.identity_token else credentials.username,
        "Secret": credentials.identity_token or credentials.password,
    }
    code, _ = _run(helper, "store", json.dumps(fields).encode())
    if code:
        raise _failed(helper, "store", server, code)


def erase(helper: str, server: str) -> bool:
    """Make `helper` forget `server`; tell whether it knew it.  Raises HelperFailed."""
    code, output = _run(helper, "erase", server.encode())
    if code and _NONE not in output:
        raise _failed(helper, "erase", server, code)
    return not code


def _run(helper: str, action: str, given: bytes) -> tuple[int, bytes]:
    if not _NAME.fullmatch(helper):
        raise HelperFailed("the configuration names a credential helper with an invalid name")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, action],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_LONGEST,
        )
    except subprocess.TimeoutExpired:
        raise HelperFailed(
            f"{program} has not answered after {_LONGEST:.0f} seconds: try it by hand"
        ) from None
    except OSError as error:
        raise HelperFailed(
            f"the credential helper {program} cannot be run: {error.strerror}; install it, or "
            "remove it from the configuration of docker or podman"
        ) from None
    return done.returncode, done.stdout


def _failed(helper: str, action: str, server: str, code: int) -> HelperFailed:
    return HelperFailed(
        f"docker-credential-{helper} failed to {action} the credentials for {server} (exit code "
        f"{code}): try `docker-credential-{helper} {action}` by hand"
    )
