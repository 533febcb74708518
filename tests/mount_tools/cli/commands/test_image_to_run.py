"""An image of the store is taken as it is; only one that is missing, or wanted anew, is pulled."""

from __future__ import annotations

import pytest

from layerstore import Image
from layerstore.errors import InvalidReference, NoSuchImage
from mount_tools.cli.commands import pull_cmd
from mount_tools.cli.commands.image_to_run import image_to_run
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import Invocation
from tests.helpers.cli import Cli


@pytest.mark.parametrize(
    ("name", "when", "pulled"),
    [
        ("busy:1", "missing", None),
        ("busy:1", "never", None),
        ("busy:1", "always", ("busy:1", True)),
        ("nope", "missing", ("nope", False)),
    ],
)
def test_what_is_pulled(
    cli: Cli,
    base: Image,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    when: str,
    pulled: tuple[str, bool] | None,
) -> None:
    seen = []

    def pull(_: Invocation, text: str, *, always: bool, **more: object) -> Image:
        seen.append((text, always))
        return base

    monkeypatch.setattr(pull_cmd, "pull_to_run", pull)
    invocation = Invocation(str(cli.root))
    assert image_to_run(invocation, name, when).id == base.id
    assert seen == ([] if pulled is None else [pulled])
    invocation.close()


@pytest.mark.usefixtures("base")
def test_refusals(cli: Cli) -> None:
    invocation = Invocation(str(cli.root))
    with pytest.raises(WrongWords, match='invalid pull option: "often"'):
        image_to_run(invocation, "busy:1", "often")
    with pytest.raises(NoSuchImage):
        image_to_run(invocation, "nope", "never")
    with pytest.raises(InvalidReference):
        image_to_run(invocation, "No!pe", "missing")
    invocation.close()
