"""The protocol of credential helpers, with a real process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore.registry import credential_helpers
from layerstore.registry.credentials import Credentials
from layerstore.registry.errors import HelperFailed
from tests.layerstore.registry.helpers import make_helper

SECRET = "correct horse"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def script(programs: Path, text: str) -> None:
    program = programs / "docker-credential-bad"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    "credentials", [Credentials("ann", SECRET), Credentials(identity_token=SECRET)]
)
def test_what_is_stored_is_found_and_erased(programs: Path, credentials: Credentials) -> None:
    log = make_helper(programs)
    assert credential_helpers.get("tests", "r.example") is None
    credential_helpers.store("tests", "r.example", credentials)
    assert credential_helpers.get("tests", "r.example") == credentials
    assert credential_helpers.erase("tests", "r.example")
    assert not credential_helpers.erase("tests", "r.example")
    assert (
        log.read_text().split()
        == ["get", "r.example", "store", "r.example", "get", "r.example"]
        + [
            "erase",
            "r.example",
        ]
        * 2
    )


@pytest.mark.parametrize("name", ["none-such", "../x", "", "a b", "-x"])
def test_helper_that_cannot_be_run(programs: Path, name: str) -> None:
    with pytest.raises(HelperFailed):
        credential_helpers.get(name, "r.example")


@pytest.mark.parametrize(
    "text",
    [f"echo '{SECRET}'; exit 3", f"echo '{SECRET}'", "echo '[]'", "echo '{\"Username\": 5}'"],
)
def test_failure_repeats_nothing_of_what_was_printed(programs: Path, text: str) -> None:
    script(programs, text)
    with pytest.raises(HelperFailed, match="docker-credential-bad") as caught:
        credential_helpers.get("bad", "r.example")
    assert SECRET not in str(caught.value)
