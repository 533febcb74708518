"""Ports are published as themselves; anything else is refused with the reason."""

from __future__ import annotations

import pytest

from layerstore.errors import StoreError
from mount_tools.container.published_ports import bindings_of, parse_published, published_in


@pytest.mark.parametrize(
    "text", ["80:80", "53:53/udp", "8000-8002:8000-8002", "0.0.0.0:80:80/tcp", "[::]:80:80"]
)
def test_a_port_as_itself(text: str) -> None:
    parse_published(text, network=True)
    with pytest.raises(StoreError, match="without a network"):
        parse_published(text, network=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8080:80", "port 80 of it is port 80 of the host"),
        (":80", "port 80 of it is port 80 of the host"),
        ("127.0.0.1:80:80", "decides on which address it listens; tell it 127.0.0.1"),
        ("[::1]:80:80", "decides on which address"),
        ("80", "which --publish 80:80 says"),
        ("80/udp", "which --publish 80:80 says"),
        ("70000:70000", "Invalid containerPort: 70000"),
        ("2-1:2-1", "Invalid containerPort: 2-1"),
        ("80:80/x", "Invalid proto: x"),
        ("x:y", "Invalid containerPort: x:y"),
        ("\u0663:\u0663", "Invalid containerPort"),
        ("", "Invalid containerPort"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(StoreError, match=r"^[^\n]*$") as caught:
        parse_published(text, network=True)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["80:80"], ["0.0.0.0:80->80/tcp, :::80->80/tcp"]),
        (["0.0.0.0:53:53/udp"], ["0.0.0.0:53->53/udp"]),
        (["80:80", "80:80"], ["0.0.0.0:80->80/tcp, :::80->80/tcp"]),
        (["[::]:80:80", "0.0.0.0:80:80"], [":::80->80/tcp, 0.0.0.0:80->80/tcp"]),
        (
            ["8000-8002:8000-8002"],
            ["0.0.0.0:8000-8002->8000-8002/tcp, :::8000-8002->8000-8002/tcp"],
        ),
        (
            ["443:443", "80:80", "81:81", "81:81/udp"],
            [
                "0.0.0.0:80-81->80-81/tcp, :::80-81->80-81/tcp",
                "0.0.0.0:81->81/udp, :::81->81/udp",
                "0.0.0.0:443->443/tcp, :::443->443/tcp",
            ],
        ),
    ],
)
def test_how_docker_shows_it(texts: list[str], shown: list[str]) -> None:
    assert [one.text for one in published_in(bindings_of(texts, network=True))] == shown


def test_what_is_no_record_of_a_port_is_left_out() -> None:
    assert published_in({"x/tcp": [], "80/tcp": None, "81/tcp": ["y"]}) == []
