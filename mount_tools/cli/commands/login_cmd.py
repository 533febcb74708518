"""`pyunion login` and `logout`.

Source: docker/cli `cli/command/registry/login.go`, `logout.go`.
Differs from docker: a password is not taken from the command line, where every user of the
machine can read it.
"""

from __future__ import annotations

import getpass
import sys

from layerstore.errors import StoreError, shown
from layerstore.oci.reference import DEFAULT_DOMAIN
from mount_tools.cli import framework
from mount_tools.cli.commands.registry_client import registry_client
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import Invocation, note, say
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.registry.client import Client
    from layerstore.registry.credentials import Credentials

_MOST = 1 << 16  # characters of a secret on stdin
_STORED = """\
WARNING! Your password will be stored unencrypted in {path}.
Configure a credential helper to remove this warning. See
https://docs.docker.com/engine/reference/commandline/login/#credentials-store
"""


@framework.command("Log in to a registry", "[SERVER]", least=0, most=1)
@framework.text("-u", "--username", says="Username")
@framework.flag("--password-stdin", says="Take the password from stdin")
@framework.text("-p", "--password", says="Refused: use --password-stdin")
def login(
    _: Invocation,
    /,
    operands: tuple[str, ...],
    username: str | None,
    password_stdin: bool,
    password: str | None,
) -> None:
    """The credentials are tried before they are stored. docker and podman find them too: they are
    in a credential helper if one is configured, else in a file that only the user can read. The
    default server is Docker Hub."""
    if password is not None:
        raise WrongWords(
            "--password is refused, since other users could read it in the list of processes: "
            "use --password-stdin",
            1,
        )
    if password_stdin and not username:
        raise WrongWords("Must provide --username with --password-stdin", 1)
    domain = _domain(operands)
    with registry_client() as client:
        if not password_stdin and username is None and _logged_in_still(client, domain):
            return
        given = _asked(domain, username, from_stdin=password_stdin)
        found = client.login(domain, given)
        path = client.credential_files.store(domain, found)
    if path is not None:
        note(_STORED.format(path=path).rstrip("\n"))
    say("Login Succeeded")


def _domain(operands: tuple[str, ...]) -> str:
    """Return the registry that the user named, by its host."""
    from layerstore.registry.auth_files import is_same_host

    text = operands[0] if operands else DEFAULT_DOMAIN
    host = text.rpartition("://")[2].partition("/")[0]
    if not host or any(not char.isprintable() or char.isspace() for char in host):
        raise StoreError(f'"{shown(text)}" is not the name of a registry: write host or host:port')
    return DEFAULT_DOMAIN if is_same_host(DEFAULT_DOMAIN, host) else host


def _logged_in_still(client: Client, domain: str) -> bool:
    """Try the stored credentials; tell whether the registry accepts them."""
    from layerstore.registry.errors import Denied, Unauthorized

    stored = client.credentials.find(domain)
    if stored is None:
        return False
    note("Authenticating with existing credentials...")
    try:
        client.login(domain, stored)
    except (Unauthorized, Denied) as error:
        note(f"Login did not succeed, error: {error}")
        return False
    say("Login Succeeded")
    return True


def _asked(domain: str, username: str | None, *, from_stdin: bool) -> Credentials:
    from layerstore.registry.credentials import Credentials

    if from_stdin:
        secret = sys.stdin.read(_MOST + 1)
        if len(secret) > _MOST:
            raise StoreError(f"the password on stdin is longer than {_MOST} characters")
        secret = secret.removesuffix("\n").removesuffix("\r")
    else:
        if not sys.stdin.isatty():
            raise StoreError("Cannot perform an interactive login from a non TTY device")
        if username is None:
            if domain == DEFAULT_DOMAIN:
                say("Login with your Docker ID to push and pull images from Docker Hub.")
            print("Username: ", end="", flush=True)
            username = sys.stdin.readline().strip()
        if not username:
            raise StoreError("Non-null Username Required")
        secret = getpass.getpass("Password: ")
    if not secret:
        raise StoreError("Password Required")
    return Credentials(username or "", secret)


@framework.command("Log out from a registry", "[SERVER]", least=0, most=1)
def logout(_: Invocation, /, operands: tuple[str, ...]) -> None:
    """The credentials are erased from every file and helper that has them. The default server
    is Docker Hub."""
    from layerstore.registry.auth_files import HUB

    domain = _domain(operands)
    with registry_client() as client:
        found = client.credential_files.erase(domain)
    shown_as = HUB if domain == DEFAULT_DOMAIN else domain
    say(f"{'Removing login credentials for' if found else 'Not logged in to'} {shown_as}")
