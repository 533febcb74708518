"""The `config` object of an image or a container, as a value with typed fields.

Decided here and only here: how the fields of a run configuration are read.  The
JSON object stays as it came, fields that PyUnion does not know included; a field
of another type than the specification's counts as absent, as in docker.

    config = RunConfig(container.config)
    config.argv, config.environment, config.user, config.working_dir

Source: image-spec config.md "config"; docker-image-spec v1.2.
"""

from __future__ import annotations

from collections.abc import Iterable

from layerstore.oci.json_values import Object
from unionfs.light_typing import NamedTuple

_OF_CONTAINERS = frozenset(("HostConfig", "Hostname", "Image", "OpenStdin", "StopTimeout", "Tty"))


def of_image(config: Object) -> Object:
    """Return what of `config` an image and a container have in common.

    The other fields are a container's alone: what it uses of the machine, for example.  No image
    gets them, and one that has them, a stranger's, is not believed.
    """
    return {name: value for name, value in config.items() if name not in _OF_CONTAINERS}


class RunConfig(NamedTuple):
    """What containers run with; `fields` is the JSON object, which is never changed."""

    fields: Object

    @property
    def entrypoint(self) -> list[str]:
        """The words that come before the command."""
        return self.words("Entrypoint")

    @property
    def command(self) -> list[str]:
        """The default arguments of the entrypoint, or the whole command without one."""
        return self.words("Cmd")

    @property
    def argv(self) -> list[str]:
        """What is executed: the entrypoint, then the command."""
        return self.entrypoint + self.command

    @property
    def env(self) -> list[str]:
        """The environment as listed, `NAME=value` each."""
        return self.words("Env")

    @property
    def environment(self) -> dict[str, str]:
        """The environment by name; of a repeated name the last value."""
        return pairs_of(self.env)

    @property
    def user(self) -> str:
        """`user[:group]`, names or numbers; "" for root."""
        return self.text("User")

    @property
    def working_dir(self) -> str:
        """The directory that the command starts in, "" for the root directory."""
        return self.text("WorkingDir")

    @property
    def hostname(self) -> str:
        """The host name of a container, "" if it is derived from the id."""
        return self.text("Hostname")

    @property
    def stop_timeout(self) -> int:
        """The seconds that `stop` waits before it kills, by default 10."""
        seconds = self.fields.get("StopTimeout")
        return seconds if isinstance(seconds, int) and 0 <= seconds < 1 << 31 else 10

    @property
    def tty(self) -> bool:
        """Whether the command has a terminal of its own."""
        return self.fields.get("Tty") is True

    @property
    def open_stdin(self) -> bool:
        """Whether the command's stdin is kept open, for those who attach."""
        return self.fields.get("OpenStdin") is True

    @property
    def stop_signal(self) -> str:
        """The signal that stops the command, a name or a number; "" for SIGTERM."""
        return self.text("StopSignal")

    @property
    def labels(self) -> dict[str, str]:
        """The labels by name."""
        return {name: str(value) for name, value in self.members("Labels").items()}

    @property
    def volumes(self) -> list[str]:
        """The paths that the image declares as volumes."""
        return list(self.members("Volumes"))

    @property
    def healthcheck(self) -> Object:
        """docker's health check, {} for none; its durations are in ns."""
        return self.members("Healthcheck")

    @property
    def on_build(self) -> list[str]:
        """The instructions for a build on top of this image."""
        return self.words("OnBuild")

    def words(self, name: str) -> list[str]:
        """Return the list of strings in the field `name`, [] for anything else."""
        found = self.fields.get(name)
        return [str(word) for word in found] if isinstance(found, list) else []

    def text(self, name: str) -> str:
        """Return the string in the field `name`, "" for anything else."""
        found = self.fields.get(name)
        return found if isinstance(found, str) else ""

    def members(self, name: str) -> Object:
        """Return the object in the field `name`, {} for anything else."""
        found = self.fields.get(name)
        return found if isinstance(found, dict) else {}


def pairs_of(pairs: Iterable[str]) -> dict[str, str]:
    """Return `NAME=value` strings as a dict; a string without `=` is a name with the value ""."""
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        found[name] = value
    return found
