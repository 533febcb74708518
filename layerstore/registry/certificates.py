"""The certificates that a host is checked with, and those that the client presents.

The authorities are the trust store of this machine and the directory with the host's name
in the first certificate directory that has one: each `*.crt` in it is an authority, each
`NAME.cert` with `NAME.key` is a certificate of this client.

Source: containers-certs.d(5); docker's docs, "Verify repository client with certificates".
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from layerstore.errors import shown
from layerstore.registry.errors import BadConfiguration


def context_for(host: str, directories: Sequence[Path], insecure: bool) -> ssl.SSLContext:
    """Return the context for connections to `host`, a name as the user typed it.

    An insecure host may have any certificate, unless an authority is configured for
    it.  Raises BadConfiguration for files that cannot be used.
    """
    # Not create_default_context: from Python 3.13 on it sets VERIFY_X509_STRICT, which
    # refuses many certificates of private authorities that docker accepts.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # isdir also says no where this user may not look.
    directory = next((path / host for path in directories if os.path.isdir(path / host)), None)
    authorities = _load(context, directory) if directory is not None else 0
    if insecure and not authorities:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_default_certs()
    return context


def _load(context: ssl.SSLContext, directory: Path) -> int:
    """Load what is in the directory of a host; return how many authorities there are."""
    authorities = 0
    try:
        names = sorted(path.name for path in directory.iterdir())
    except PermissionError:
        return 0  # this user may not read it
    for name in names:
        path = directory / name
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(cafile=path)
                authorities += 1
            elif path.suffix == ".cert":
                _need(path, path.with_suffix(".key"))
                context.load_cert_chain(path, path.with_suffix(".key"), password=_no_password)
            elif path.suffix == ".key":
                _need(path, path.with_suffix(".cert"))
        except (OSError, ssl.SSLError) as error:
            raise BadConfiguration(
                f"{path} cannot be used as a certificate: {shown(str(error))}"
            ) from None
    return authorities


def _need(path: Path, other: Path) -> None:
    if not other.exists():
        raise BadConfiguration(
            f"{path} has no {other.name} next to it: a client needs both; rename it to *.crt if "
            "it is an authority"
        )


def _no_password() -> str:
    """Refuse an encrypted key, so that OpenSSL does not ask at the terminal."""
    return ""
