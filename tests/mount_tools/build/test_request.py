"""The flags of a build as values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.build.request import (
    build_arguments,
    checked_network,
    extra_hosts,
    labels,
    read_secrets,
    rights,
    source_date_epoch,
)
from mount_tools.container.rights import (
    CAPABILITIES,
    DEFAULT,
    MKNOD,
    UNCONFINED,
    Rights,
    Ulimit,
)


def test_an_argument_without_a_value_has_that_of_the_environment() -> None:
    words = ["A=1", "B", "C", "D=", "E=x=y"]
    assert build_arguments(words, {"B": "b"}) == {"A": "1", "B": "b", "D": "", "E": "x=y"}
    with pytest.raises(StoreError, match='for "--build-arg" flag'):
        build_arguments(["=x"], {})


def test_labels_are_sorted_and_the_last_counts() -> None:
    assert labels(["b=1", "a", "b=2"]) == [("a", ""), ("b", "2")]


def test_secrets_come_from_files_and_variables(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xff\n")
    words = [f"id=a,src={file}", "id=b,env=B", "id=C", f"type=file,id=d,source={file}"]
    found = read_secrets(words, {"B": "bb", "C": "cc"})
    assert found == {"a": b"\xff\n", "b": b"bb", "C": b"cc", "d": b"\xff\n"}


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("src=x", "invalid secret"),
        ("id=a\nb", r'invalid secret "id=a\\nb": it is not one line of CSV'),
        ("id=a,what=x", "unexpected key 'what'"),
        ("id=a,src=/no/such", "No such file"),
        ("id=a,src=/dev/zero", "larger than 512,000 bytes"),
        ("id=a,src=fifo", "cannot be read: fifo: it is a FIFO that no process writes to"),
        ("id=a,env=NO", "variable NO is not set"),
        ("id=a,env=X,src=y", "both src and env"),
        ("id=a,type=odd", "unsupported secret type"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said(
    word: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with pytest.raises(StoreError, match=text):
        read_secrets([word], {"X": "value"})


def test_the_epoch_is_seconds() -> None:
    assert source_date_epoch({}, {}) is None
    assert source_date_epoch({}, {"SOURCE_DATE_EPOCH": "12"}) == 12_000_000_000
    assert source_date_epoch({"SOURCE_DATE_EPOCH": "1"}, {"SOURCE_DATE_EPOCH": "12"}) == 10**9
    with pytest.raises(StoreError, match="number of seconds"):
        source_date_epoch({}, {"SOURCE_DATE_EPOCH": "today"})


def test_hosts_and_the_network_are_checked() -> None:
    words = ("a:1.2.3.4", "b:::1")
    assert extra_hosts(words) == words
    for bad in ("a", "a:", ":1.2.3.4", "a:b"):
        with pytest.raises(StoreError, match="bad format for add-host"):
            extra_hosts([bad])
    assert [checked_network(word) for word in ("default", "host", "none")] == [
        "default", "host", "none",
    ]  # fmt: skip
    with pytest.raises(StoreError, match="network bridge not found"):
        checked_network("bridge")


def test_rights_are_those_of_the_flags() -> None:
    assert rights([], []) is None
    found = rights([f"seccomp={UNCONFINED}", "no-new-privileges"], ["nofile=1:2"])
    assert found == Rights(
        no_new_privileges=True, ulimits=(Ulimit("nofile", 1, 2),), seccomp=UNCONFINED
    )
    found = rights([], [], ["mknod"], ["chown"])
    assert found is not None
    assert found.capabilities == DEFAULT - {CAPABILITIES["CHOWN"]} | {MKNOD}
    with pytest.raises(StoreError, match="invalid --security-opt"):
        rights(["label=x"], [])
    with pytest.raises(StoreError, match="invalid ulimit"):
        rights([], ["nofile=x"])
