"""A run configuration has typed fields, whatever an image says in them."""

from __future__ import annotations

import pytest

from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig, of_image, pairs_of

FULL: Object = {
    "Cmd": ["sh", "-c", "ls"],
    "Entrypoint": ["/init"],
    "Env": ["PATH=/bin", "A=b=c", "EMPTY", "PATH=/usr/bin"],
    "User": "1000:100",
    "WorkingDir": "/work",
    "Hostname": "box",
    "StopSignal": "SIGINT",
    "Labels": {"a": "1", "n": 2},
    "Volumes": {"/data": {}},
    "Healthcheck": {"Test": ["NONE"]},
    "OnBuild": ["RUN x"],
}


def test_every_field() -> None:
    config = RunConfig(FULL)
    assert config.argv == ["/init", "sh", "-c", "ls"]
    assert (config.entrypoint, config.command) == (["/init"], ["sh", "-c", "ls"])
    assert config.environment == {"PATH": "/usr/bin", "A": "b=c", "EMPTY": ""}
    assert (config.user, config.working_dir, config.hostname) == ("1000:100", "/work", "box")
    assert config.stop_signal == "SIGINT"
    assert config.labels == {"a": "1", "n": "2"}
    assert config.volumes == ["/data"]
    assert (config.healthcheck, config.on_build) == ({"Test": ["NONE"]}, ["RUN x"])


@pytest.mark.parametrize("wrong", [None, 7, True, "text", ["list"], {"an": "object"}])
def test_a_field_of_another_type_counts_as_absent(wrong: object) -> None:
    config = RunConfig(dict.fromkeys(FULL, wrong))  # type: ignore[arg-type]
    is_list, is_text = isinstance(wrong, list), isinstance(wrong, str)
    is_object = isinstance(wrong, dict)
    assert config.argv == (["list", "list"] if is_list else [])
    assert config.user == ("text" if is_text else "")
    assert config.labels == ({"an": "object"} if is_object else {})
    assert config.volumes == (["an"] if is_object else [])


def test_the_last_of_equal_names_wins_and_a_name_alone_is_empty() -> None:
    assert pairs_of(["a=1", "b", "a=2", "=x"]) == {"a": "2", "b": "", "": "x"}


def test_what_is_a_containers_alone_is_no_images() -> None:
    given: Object = {"Cmd": ["x"], "Labels": {"a": "b"}, "Unknown": 1}
    more: Object = {"HostConfig": {"Binds": ["/:/h"]}, "Hostname": "h", "Tty": True, "Image": "i"}
    assert of_image({**given, **more, "StopTimeout": 1, "OpenStdin": True}) == given
