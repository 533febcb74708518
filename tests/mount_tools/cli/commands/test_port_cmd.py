"""`pyunion port`, in docker's words."""

from __future__ import annotations

import os

from layerstore import Image
from tests.helpers.cli import Cli


def test_the_ports_of_a_container_that_runs(cli: Cli, base: Image) -> None:
    words = ("-p", "8081-8082:8081-8082", "-p", "0.0.0.0:53:53/udp")
    cli.ok("create", "--name", "box", *words, base.id.encoded, "sh")
    assert cli.ok("port", "box") == ""
    with cli.store() as store:
        store.containers.started(store.containers.resolve("box"), os.getpid())
    assert cli.ok("port", "box").splitlines() == [
        "53/udp -> 0.0.0.0:53",
        "8081/tcp -> 0.0.0.0:8081",
        "8081/tcp -> :::8081",
        "8082/tcp -> 0.0.0.0:8082",
        "8082/tcp -> :::8082",
    ]
    assert cli.ok("container", "port", "box", "8081") == "0.0.0.0:8081\n:::8081\n"
    assert cli.ok("port", "box", "53/udp") == "0.0.0.0:53\n"
    for asked in ("53", "53/tcp"):
        complaint = "Error: No public port '53/tcp' published for box\n"
        assert cli.fails("port", "box", asked) == complaint
    assert cli.fails("port", "nope") == "Error: No such container: nope\n"
