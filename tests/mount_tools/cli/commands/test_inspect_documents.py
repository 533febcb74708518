"""The documents of `inspect` have docker's fields in docker's order."""

from __future__ import annotations

from layerstore import Image
from layerstore.images.inspect import NO_CONFIG
from mount_tools.cli.commands.inspect_documents import container_document, image_document
from tests.helpers.cli import Cli


def test_an_image(cli: Cli, child: Image, base: Image) -> None:
    with cli.store() as store:
        found = image_document(store, store.images.resolve("changed:1"))
        layers = store.layers.chain(child.top)
        diff_ids = store.images.config(child).diff_ids
    assert list(found) == [
        "Id", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "DockerVersion", "Author",
        "Config", "Architecture", "Os", "Size", "VirtualSize", "GraphDriver", "RootFS", "Metadata",
    ]  # fmt: skip
    assert (found["Parent"], found["Author"], found["Comment"]) == (
        base.id,
        "Me <me@x>",
        "a message",
    )
    assert found["Config"] == {**NO_CONFIG, "Cmd": ["/bin/sh"], "Labels": {}}
    assert found["GraphDriver"] == {
        "Data": {
            "LowerDir": str(layers[1].diff),
            "UpperDir": str(layers[0].diff),
            "ChainID": child.top,
        },
        "Name": "pyunion",
    }
    assert found["RootFS"] == {"Type": "layers", "Layers": list(diff_ids)}


def test_a_container(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        box = store.containers.create(
            base, name="box", image_name="busy:1", config={"Cmd": ["/bin/sh", "-c", "exit 3"]}
        )
        box = store.containers.finished(box, 3)
        found = container_document(store, box, size=True)
        upper = box.upper
        (lower,) = store.containers.lowers(box)
    assert (found["Name"], found["Path"], found["Args"]) == ("/box", "/bin/sh", ["-c", "exit 3"])
    assert (found["SizeRw"], found["SizeRootFs"], found["Image"]) == (0, 1006, base.id)
    state, driver = found["State"], found["GraphDriver"]
    assert isinstance(state, dict)
    assert isinstance(driver, dict)
    assert (state["Status"], state["Running"], state["ExitCode"], state["Pid"]) == (
        "exited",
        False,
        3,
        0,
    )
    settings, host = found["NetworkSettings"], found["HostConfig"]
    assert isinstance(settings, dict)
    assert isinstance(host, dict)
    assert found["LogPath"] == ""  # it has printed nothing
    assert (settings["IPAddress"], settings["Ports"]) == ("", {})
    assert settings["Networks"] == {
        "host": {"Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "MacAddress": ""}
    }
    assert (host["NetworkMode"], host["RestartPolicy"]) == (
        "host",
        {"Name": "no", "MaximumRetryCount": 0},
    )
    assert state["StartedAt"] == "0001-01-01T00:00:00Z"
    assert driver["Data"] == {
        "LowerDir": str(lower),
        "UpperDir": str(upper),
        "MergedDir": "",
        "WorkDir": str(upper.parent / "work"),
    }
