"""Proxies of the environment, as Go reads it."""

from __future__ import annotations

import os

import pytest

from layerstore.registry.errors import BadConfiguration
from layerstore.registry.proxies import Proxy, proxy_for, proxy_variables

PROXY = Proxy("proxy.example", 3128)
SET = {"HTTPS_PROXY": "http://proxy.example:3128"}


def test_variable_of_the_scheme_in_either_case() -> None:
    assert proxy_for("https", "r.example", 443, SET) == PROXY
    assert proxy_for("http", "r.example", 80, SET) is None
    assert proxy_for("http", "r.example", 80, {"http_proxy": "proxy.example:3128"}) == PROXY
    assert proxy_for("https", "r.example", 443, {}) is None
    assert proxy_variables(SET) == ["HTTPS_PROXY"]


@pytest.mark.parametrize("host", ["localhost", "x.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_never_behind_a_proxy(host: str) -> None:
    assert proxy_for("https", host, 5000, SET) is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("*", "r.example", 443, True),
        ("r.example", "r.example", 443, True),
        ("R.Example", "r.example", 443, True),
        ("r.example", "a.r.example", 443, True),
        ("r.example", "xr.example", 443, False),
        (".r.example", "a.r.example", 443, True),
        (".r.example", "r.example", 443, False),
        ("*.r.example", "a.r.example", 443, True),
        ("r.example:5000", "r.example", 5000, True),
        ("r.example:5000", "r.example", 443, False),
        ("a, ,r.example ,b", "r.example", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:5000", "10.1.2.3", 443, False),
        ("10.1.2.3:5000", "10.1.2.3", 5000, True),
        ("[fd00::1]:5000", "fd00::1", 5000, True),
        ("fd00::/8", "fd00::1", 443, True),
        ("r.example:²", "r.example", 443, False),
        ("", "r.example", 443, False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, direct: bool) -> None:
    found = proxy_for("https", host, port, {**SET, "NO_PROXY": no_proxy})
    assert (found is None) == direct


def test_password_is_sent_and_not_shown() -> None:
    found = proxy_for("https", "r.example", 443, {"HTTPS_PROXY": "http://ann:p%40ss@p.example"})
    assert found is not None and found.authorization == "Basic YW5uOnBAc3M="
    assert found.port == 80 and "YW5u" not in repr(found)


def test_password_need_not_be_utf_8() -> None:
    password = os.fsdecode(b"\xff")
    found = proxy_for(
        "https", "r.example", 443, {"HTTPS_PROXY": f"http://ann:{password}@p.example"}
    )
    assert found is not None and found.authorization == "Basic YW5uOv8="


@pytest.mark.parametrize(
    "text", ["socks5://p.example", "https://p.example", "http://", "http://h:x"]
)
def test_proxy_that_does_not_work_here_is_named(text: str) -> None:
    with pytest.raises(BadConfiguration, match="HTTPS_PROXY"):
        proxy_for("https", "r.example", 443, {"HTTPS_PROXY": text})
