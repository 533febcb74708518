"""What a command line makes a container of; the flags themselves are in test_container_flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore import Image
from layerstore.errors import Conflict, StoreError
from mount_tools.cli.commands.container_flags import ContainerFlags
from mount_tools.cli.commands.new_container import create_container, image_for
from mount_tools.cli.id_file import refuse_used
from mount_tools.cli.invocation import Invocation
from tests.helpers.cli import Cli


def test_the_id_is_written_to_a_file_that_is_new(cli: Cli, base: Image, tmp_path: Path) -> None:
    flags = ContainerFlags(name="box", cidfile=str(tmp_path / "id"), env=("A=1",))
    refuse_used(flags.cidfile)
    with cli.store() as store:
        made = create_container(store, base, ("busy:1", "ls"), flags)
        assert (made.name, made.image_name, made.config["Cmd"]) == ("box", "busy:1", ["ls"])
    assert (tmp_path / "id").read_text() == made.id
    with pytest.raises(Conflict, match="Container ID file found"):
        refuse_used(flags.cidfile)


def test_no_container_is_left_if_its_id_cannot_be_written(
    cli: Cli, base: Image, tmp_path: Path
) -> None:
    """It would stay for good, also with --rm, and nobody would know it."""
    flags = ContainerFlags(cidfile=str(tmp_path / "absent" / "id"), volume=("/data",))
    with cli.store() as store:
        with pytest.raises(FileNotFoundError):
            create_container(store, base, ("busy:1", "ls"), flags)
        assert (store.containers.list(), store.volumes.list()) == ([], [])


@pytest.mark.usefixtures("base")
def test_an_image_of_another_platform_than_asked_for_is_refused(cli: Cli) -> None:
    invocation = Invocation(str(cli.root))
    flags = ContainerFlags(platform="plan9/sparc", pull="never")
    with pytest.raises(StoreError, match="does not match the specified platform"):
        image_for(invocation, "busy:1", flags)
    invocation.close()
