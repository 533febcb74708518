"""A client of the OCI distribution protocol, and pull, push and copy of images with it.

    from layerstore import Store, parse_reference
    from layerstore.registry import Client, Transfer, pull_image

    name = parse_reference("debian:12")
    with Store.open() as store, Client() as client:
        transfer = Transfer(report=print, cancel=client.cancel)
        pulled = pull_image(store, client.repository(name), name, transfer=transfer)
        print(pulled.digest, store.images.get(pulled.image).size)

A client uses registries as docker and podman do on this machine: their configuration,
credentials and certificates are read where they keep them.  Everything is synchronous,
and a client may be used from many threads; `Client.cancel` ends what they do.  Errors are
`RegistryError`s, with a class for each kind and a sentence for people.

The protocol needs no store: `Client.repository` reads and writes manifests, blobs and
tags by itself.  What the modules are for:

    pull, push, copy        whole images, with their progress
    client                  hosts, as this machine is configured
    repository, catalog     one repository; a registry as a whole
    blob_body, uploads      the download and upload of one blob, resumed after a failure
    client, auth           requests with authorization, redirects and retries
    http_transport          connections
    config, credential_files, certificates, proxies    the configuration of this machine

The names below are imported when they are first used.
"""

from __future__ import annotations

from unionfs.lazy_names import lazy_names
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.registry.catalog import Registry
    from layerstore.registry.client import Client
    from layerstore.registry.config import Configuration
    from layerstore.registry.copy import copy_image
    from layerstore.registry.credential_files import CredentialFiles
    from layerstore.registry.credentials import Credentials
    from layerstore.registry.errors import RegistryError
    from layerstore.registry.pull import pull_all, pull_image
    from layerstore.registry.push import push_image
    from layerstore.registry.repository import Repository
    from layerstore.registry.transfer import Transfer

__all__ = [
    "Client",
    "Configuration",
    "CredentialFiles",
    "Credentials",
    "Registry",
    "RegistryError",
    "Repository",
    "Transfer",
    "copy_image",
    "pull_all",
    "pull_image",
    "push_image",
]

_HOMES = {
    "Client": "client",
    "Configuration": "config",
    "CredentialFiles": "credential_files",
    "Credentials": "credentials",
    "Registry": "catalog",
    "RegistryError": "errors",
    "Repository": "repository",
    "Transfer": "transfer",
    "copy_image": "copy",
    "pull_all": "pull",
    "pull_image": "pull",
    "push_image": "push",
}


if not TYPE_CHECKING:  # with __getattr__, mypy would accept every name
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
