"""What stages have made, as the configuration of an image."""

from __future__ import annotations

import os

import pytest

from layerstore.containerfile.arguments import GlobalArguments
from layerstore.containerfile.stage_state import StageState
from layerstore.oci.digest import sha256_digest
from layerstore.oci.platform import Platform
from mount_tools.build.made import Made, Origin
from tests.helpers.images import config_of, diff_id

ARM = Platform("linux", "arm64", "v8")


def made_of(base: bool) -> Made:
    layers = [diff_id({"a": b"a"})]
    config = config_of(layers, docker_version="20", container_config={}) if base else None
    made = Made(config, None, "base", sha256_digest(b""))
    if config is not None:
        made.diff_ids = list(config.diff_ids)
        made.history = list(config.history)
    made.state = StageState({"Cmd": ["x"]}, GlobalArguments({}).stage(), "\\")
    return made


def test_a_configuration_derives_from_that_of_the_base() -> None:
    made = made_of(True)
    made.take(5, "RUN a", diff_id({"b": b"b"}))
    made.take(7, "ENV b", None)
    fields = made.image_config(ARM).fields
    assert fields["architecture"] == "amd64"
    assert fields["created"] == "1970-01-01T00:00:00.000000007Z"
    assert "docker_version" not in fields and "container_config" not in fields
    assert fields["rootfs"] == {
        "type": "layers",
        "diff_ids": [diff_id({"a": b"a"}), diff_id({"b": b"b"})],
    }
    history = fields["history"]
    assert isinstance(history, list)
    assert history[1:] == [
        {"created": "1970-01-01T00:00:00.000000005Z", "created_by": "RUN a"},
        {
            "created": "1970-01-01T00:00:00.000000007Z",
            "created_by": "ENV b",
            "empty_layer": True,
        },
    ]


def test_from_scratch_the_platform_is_that_of_the_build() -> None:
    made = made_of(False)
    made.take(5, "COPY a", diff_id({"b": b"b"}))
    fields = made.image_config(ARM).fields
    assert [fields[name] for name in ("os", "architecture", "variant")] == ["linux", "arm64", "v8"]


def test_an_origin_closes_what_it_has() -> None:
    fd = os.open("/", os.O_RDONLY)
    origin = Origin(None, [fd])
    assert origin.identity == "empty"
    origin.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
