"""What a command line makes of an image's configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore.errors import InvalidArgument, StoreError
from layerstore.oci.documents import Object
from mount_tools.cli.commands.container_flags import ContainerFlags, config_of
from mount_tools.cli.errors import WrongWords

IMAGE: Object = {
    "Cmd": ["/bin/sh"],
    "Env": ["PATH=/bin", "A=1"],
    "Labels": {"of": "image"},
    "WorkingDir": "/srv",
    "User": "www",
    "StopSignal": "SIGINT",
}


def made(command: tuple[str, ...] = (), image: Object = IMAGE, **flags: object) -> Object:
    said = ContainerFlags(**flags)  # type: ignore[arg-type]
    return config_of(image, "busy:1", said, command, {"HOME": "/root"})


def test_an_image_as_it_is() -> None:
    config = made()
    for name, value in IMAGE.items():
        assert config[name] == value
    assert config["Image"] == "busy:1"
    assert config["HostConfig"] == {"Binds": [], "ReadonlyRootfs": False}


def test_words_replace_the_command_and_an_entrypoint_both() -> None:
    image: Object = {**IMAGE, "Entrypoint": ["/init"]}
    assert made(("ls", "-l"), image)["Cmd"] == ["ls", "-l"]
    assert made(("ls",), image)["Entrypoint"] == ["/init"]
    config = made((), image, entrypoint="/other")
    assert (config["Entrypoint"], config["Cmd"]) == (["/other"], None)
    config = made(("x",), image, entrypoint="")
    assert (config["Entrypoint"], config["Cmd"]) == (None, ["x"])
    with pytest.raises(StoreError, match=r"^No command specified$"):
        made((), {})
    assert config_of({}, "busy:1", ContainerFlags(), (), {}, runs=False).get("Cmd") is None


def test_a_command_that_is_an_init_is_process_1() -> None:
    """s6-overlay and systemd refuse to be anything else, and tini warns."""
    for entrypoint in (["/init"], ["/usr/bin/tini", "--", "/run.sh"], ["dumb-init", "x"]):
        host = made((), {**IMAGE, "Entrypoint": list(entrypoint)})["HostConfig"]
        assert isinstance(host, dict) and host["Init"] is False, entrypoint
    usual = {"Binds": [], "ReadonlyRootfs": False}
    assert made(("/sbin/init",), init=True)["HostConfig"] == usual
    assert made(("/init/sh",))["HostConfig"] == usual
    assert config_of({}, "busy:1", ContainerFlags(), (), {}, runs=False)["HostConfig"] == usual


def test_the_size_of_shared_memory() -> None:
    host = made(shm_size="1m")["HostConfig"]
    assert isinstance(host, dict) and host["Tmpfs"] == {"/dev/shm": f"size={1 << 20}"}
    assert made(shm_size="0")["HostConfig"] == made()["HostConfig"]
    with pytest.raises(InvalidArgument, match="'x'"):
        made(shm_size="x")


def test_variables_add_up(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\nB=of file\nC=of file\nHOME\n")
    config = made(env_file=(str(file),), env=("C=said", "A", "D=x=y"))
    assert config["Env"] == ["PATH=/bin", "B=of file", "C=said", "HOME=/root", "D=x=y"]
    file.write_text("a b=c\n")
    with pytest.raises(WrongWords, match="contains whitespaces"):
        made(env_file=(str(file),))
    with pytest.raises(WrongWords, match="no such file"):
        made(env_file=(f"{tmp_path}/nope",))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(WrongWords, match="a fifo that no process writes to"):
        made(env_file=(f"{tmp_path}/fifo",))
    with pytest.raises(WrongWords, match="/dev/zero is larger than 4 MiB"):
        made(env_file=("/dev/zero",))


def test_labels_users_and_places() -> None:
    config = made(label=("a=1", "b"), user="0:0", workdir="/a/../b/", hostname="h")
    assert config["Labels"] == {"of": "image", "a": "1", "b": ""}
    assert (config["User"], config["WorkingDir"], config["Hostname"]) == ("0:0", "/b", "h")
    with pytest.raises(StoreError, match=r"^the working directory 'rel' is invalid"):
        made(workdir="rel")


def test_volumes_are_stored_as_docker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    host = made(volume=("/a:/b:ro", "./c:/d/:rw"), read_only=True)["HostConfig"]
    assert host == {"Binds": ["/a:/b:ro", "/tmp/c:/d"], "ReadonlyRootfs": True}
    with pytest.raises(StoreError, match="invalid mode: bad"):
        made(volume=("/a:/b:bad",))


def test_what_happens_anyway_may_be_asked_for() -> None:
    assert made(network="host", init=True) == made()
    assert made(init=False)["HostConfig"] == {"Binds": [], "ReadonlyRootfs": False, "Init": False}
    for name in ("bridge", "nothing", ""):
        with pytest.raises(StoreError, match=f"^network {name} not found: .*--network none$"):
            made(network=name)
