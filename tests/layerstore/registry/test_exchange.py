"""Redirects, without a network: what is followed, and what is carried on."""

from __future__ import annotations

import pytest

from layerstore.registry.errors import BadAnswer, UnsafeRedirect
from layerstore.registry.exchange import Exchange
from layerstore.registry.reach import Reach
from layerstore.registry.transport import Answer, HttpRequest
from tests.layerstore.registry.fakes import FakeAnswer, FakeTransport

HOME = "https://r.example/v2/"


def sent(
    locations: dict[str, str], method: str = "GET", status: int = 307, url: str = HOME
) -> tuple[Answer, list[HttpRequest]]:
    """Send a request where some addresses lead to others."""

    def answer(request: HttpRequest) -> FakeAnswer:
        target = locations.get(request.url)
        return FakeAnswer(status, headers=[("location", target)]) if target else FakeAnswer(200)

    transport = FakeTransport(answer)
    exchange = Exchange(
        "r.example", transport, Reach("r.example"), lambda host: host == "in.example"
    )
    request = HttpRequest(method, url, {"Authorization": "secret", "Accept": "x"}, (b"body",))
    found = exchange.send(request)
    assert all(fake.closed for fake in transport.answers[:-1])
    return found, transport.requests


def test_path_on_the_same_host_keeps_the_credentials() -> None:
    found, requests = sent({HOME: "../v2/other?x=%2F#part"})
    assert found.status == 200 and found.url == "https://r.example/v2/other?x=%2F"
    assert requests[1].headers == {"Authorization": "secret", "Accept": "x"}


@pytest.mark.parametrize(
    "target", ["https://other.example/x", "https://r.example:444/x", "https://sub.r.example/"]
)
def test_another_host_does_not_get_them(target: str) -> None:
    _, requests = sent({HOME: target})
    assert requests[1].headers == {"Accept": "x"} and requests[1].url == target


def test_credentials_do_not_come_back_on_the_way() -> None:
    _, requests = sent({HOME: "https://o.example/", "https://o.example/": HOME + "x"})
    assert "Authorization" not in requests[2].headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_body_is_sent_on_only_where_that_is_meant(method: str) -> None:
    for status in (307, 308):
        found, requests = sent({HOME: "/x"}, method, status)
        assert found.status == 200
        assert requests[1].method == method and requests[1].body == (b"body",)
    for status in (301, 302, 303):
        found, requests = sent({HOME: "/x"}, method, status)
        assert found.status == status and len(requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_reads_are_led_by_each_code(status: int) -> None:
    assert sent({HOME: "/x"}, "HEAD", status)[0].status == 200


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:5000/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/",
        "https://2130706433/",
        "http://other.example/",
        "file:///etc/passwd",
    ],
)
def test_registry_of_the_internet_leads_nowhere_nearer(target: str) -> None:
    if target == "https://2130706433/":
        # A number is no name that says where it is; the address that it leads to decides.
        sent({HOME: target})
        return
    with pytest.raises(UnsafeRedirect, match=r"^r\.example leads"):
        sent({HOME: target})


def test_plain_http_where_it_is_configured() -> None:
    assert sent({HOME: "http://in.example/x"})[0].status == 200
    assert (
        sent({"http://r.example/": "http://o.example/"}, url="http://r.example/")[0].status == 200
    )


def test_circles_and_chains_end() -> None:
    with pytest.raises(BadAnswer, match="in circles"):
        sent({HOME: "/a", "https://r.example/a": "/v2/"})
    chain = {HOME: "/0"} | {f"https://r.example/{n}": f"/{n + 1}" for n in range(50)}
    with pytest.raises(BadAnswer, match="too often"):
        sent(chain)
