"""What a container uses of the host and of the store: recorded once, read back the same."""

from __future__ import annotations

import pytest

from layerstore.errors import Conflict, StoreError
from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig
from mount_tools.container.host_config import HostConfig, host_config, volume_uses
from mount_tools.container.mount_words import StoreVolume, Tmpfs, Volume
from mount_tools.container.rights import Ulimit


def test_what_is_stored_is_read_back() -> None:
    host = HostConfig((Volume("/a", "/b"), Volume("/c", "/d", read_only=True)), read_only=True)
    assert host.fields == {"Binds": ["/a:/b", "/c:/d:ro"], "ReadonlyRootfs": True}
    assert host_config(RunConfig({"HostConfig": host.fields})) == host
    odd_ones: list[Object] = [{}, {"HostConfig": None}, {"HostConfig": {"ReadonlyRootfs": 1}}]
    for odd in odd_ones:
        assert host_config(RunConfig(odd)) == HostConfig()


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
        named=(StoreVolume("data", "/d", read_only=True),),
        mounts=(StoreVolume("", "/u"), StoreVolume("more", "/m", copy=False)),
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


def config(*declared: str, **host: object) -> RunConfig:
    fields: Object = {path: {} for path in declared}
    made = HostConfig(**host)  # type: ignore[arg-type]  # each test names its fields
    return RunConfig({"Volumes": fields, "HostConfig": made.fields})


def test_the_volumes_of_a_container() -> None:
    uses = volume_uses(
        config(
            "/declared/",
            "relative",
            "/named",
            "/bound",
            "/memory",
            named=(StoreVolume("data", "/named", read_only=True),),
            mounts=(StoreVolume("", "/unnamed", copy=False),),
            volumes=(Volume("/a", "/bound"),),
            tmpfs=(Tmpfs("/memory"),),
        )
    )
    assert [(use.target, use.read_only, use.named, use.filled) for use in uses] == [
        ("/named", True, True, False),
        ("/unnamed", False, False, True),
        ("/declared", False, False, False),
        ("/relative", False, False, False),
    ]
    assert uses[0].volume == "data"
    assert len({use.volume for use in uses}) == len(uses)


def test_two_mounts_of_one_target() -> None:
    for host in (
        {"named": (StoreVolume("a1", "/x"),), "volumes": (Volume("/a", "/x"),)},
        {"tmpfs": (Tmpfs("/x"),), "mounts": (StoreVolume("", "/x"),)},
    ):
        with pytest.raises(Conflict, match=r"^Duplicate mount point: /x$"):
            volume_uses(config(**host))


@pytest.mark.parametrize("path", ["/", "", "..", "/a\0b", "/\udcff"])
def test_declared_volumes_that_cannot_be(path: str) -> None:
    with pytest.raises(StoreError, match=r"destination can't be '/'|NUL byte|must be UTF-8"):
        volume_uses(config(path))
