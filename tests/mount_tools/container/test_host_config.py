"""Volumes: written once, read the same wherever they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore.errors import StoreError
from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig
from mount_tools.container.host_config import (
    HostConfig,
    Tmpfs,
    Volume,
    host_config,
    parse_mount,
    parse_tmpfs,
    parse_volume,
)
from mount_tools.container.rights import Ulimit
from unionfs.syscalls.mount import MS_NODEV, MS_NOSUID, MS_RDONLY


def test_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_volume("/a:/b") == Volume("/a", "/b")
    assert parse_volume("/a:/b:rw") == Volume("/a", "/b")
    assert parse_volume("./a:/b/:ro") == Volume("/tmp/a", "/b", read_only=True)
    assert parse_volume("~/a:/b/../c") == Volume("/home/me/a", "/c")


def test_what_is_stored_is_read_back() -> None:
    host = HostConfig((Volume("/a", "/b"), Volume("/c", "/d", read_only=True)), read_only=True)
    assert host.fields == {"Binds": ["/a:/b", "/c:/d:ro"], "ReadonlyRootfs": True}
    assert host_config(RunConfig({"HostConfig": host.fields})) == host
    odd_ones: list[Object] = [{}, {"HostConfig": None}, {"HostConfig": {"ReadonlyRootfs": 1}}]
    for odd in odd_ones:
        assert host_config(RunConfig(odd)) == HostConfig()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a bind mount is SOURCE:TARGET"),
        ("x", "there are no volumes without a source"),
        ("/a:/b:bad", "^invalid mode: bad$"),
        ("/a:/b:ro:ro", "^invalid mode: ro:ro$"),
        ("/a:rel", "mount path must be absolute$"),
        ("name:/b", "no volumes with names here; for the directory name write ./name$"),
        ("/a:/", "destination can't be '/'$"),
        ("/a:/b/..", "destination can't be '/'$"),
    ],
)
def test_volumes_that_cannot_be(text: str, complaint: str) -> None:
    with pytest.raises(StoreError, match=complaint):
        parse_volume(text)


def test_a_working_directory_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b").mkdir()
    monkeypatch.chdir(tmp_path / "a:b")
    with pytest.raises(StoreError, match="has a colon in its name"):
        parse_volume("./x:/y")


def test_mounts_by_words() -> None:
    assert parse_mount("type=bind,source=/a,target=/b") == Volume("/a", "/b")
    assert parse_mount("type=bind,src=/a,dst=/b/,ro") == Volume("/a", "/b", read_only=True)
    assert parse_mount("type=tmpfs,destination=/b,tmpfs-size=1m,tmpfs-mode=1777") == Tmpfs(
        "/b", "size=1m,mode=1777"
    )
    assert parse_tmpfs("/b:size=1m,exec") == Tmpfs("/b", "size=1m,exec")
    assert Tmpfs("/b", "size=1m,exec,ro").mount_options() == (
        MS_NOSUID | MS_NODEV | MS_RDONLY,
        b"size=1m",
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("type=bind,target=/b", "source is required"),
        ("type=bind,source=/a", "target is required"),
        ("source=/a,target=/b", "mount type volume"),
        ("type=npipe,source=/a,target=/b", "mount type npipe"),
        ("type=bind,source=/a,target=b", "must be absolute"),
        ("type=bind,source,target=/b", "must be a key=value pair"),
        ("kind=bind", "unexpected key kind=bind"),
        ("type=tmpfs,target=/", "destination can't be '/'"),
    ],
)
def test_mounts_that_cannot_be(text: str, complaint: str) -> None:
    with pytest.raises(StoreError, match=complaint):
        parse_mount(text)


def test_all_of_it_is_read_back() -> None:
    host = HostConfig(
        tmpfs=(Tmpfs("/t", "size=1m"),),
        network="none",
        privileged=True,
        cap_add=("CAP_MKNOD",),
        cap_drop=("ALL",),
        no_new_privileges=True,
        ulimits=(Ulimit("nofile", 1, -1),),
        extra_hosts=("a:1.2.3.4",),
        dns=("9.9.9.9",),
        dns_search=("example.org",),
        dns_options=("rotate",),
    )
    assert host_config(RunConfig({"HostConfig": host.fields})) == host


def test_a_resolv_conf_has_what_is_given_in_place_of_the_hosts() -> None:
    host = HostConfig(dns=("9.9.9.9", "::1"), dns_search=("a.example", "b.example"))
    of_host = "nameserver 1.1.1.1\nsearch old\noptions ndots:2\n"
    assert host.resolv_conf(of_host).splitlines() == [
        "options ndots:2",
        "nameserver 9.9.9.9",
        "nameserver ::1",
        "search a.example b.example",
    ]
    assert HostConfig().resolv_conf(of_host) == of_host
