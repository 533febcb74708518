"""Only a yes is a yes."""

from __future__ import annotations

import io

import pytest

from mount_tools.cli.confirm import confirmed


@pytest.mark.parametrize(
    ("answer", "meant"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)],
)
def test_the_question(
    answer: str,
    meant: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert confirmed("This will remove all dangling images.") is meant
    assert capsys.readouterr().out.rstrip("\n") == (
        "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
    )
