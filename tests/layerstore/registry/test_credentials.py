"""Credentials: what they are sent as, and that no text shows them."""

from __future__ import annotations

import base64

from layerstore.registry.credentials import Credentials, OneLogin


def test_basic_holds_name_and_password() -> None:
    basic = Credentials("ann", "pä:ss").basic
    assert base64.b64decode(basic.removeprefix("Basic ")).decode() == "ann:pä:ss"


def test_no_text_shows_a_secret() -> None:
    credentials = Credentials("ann", "hidden", "token")
    for text in (repr(credentials), str(credentials), f"{OneLogin(credentials)}"):
        assert "hidden" not in text and "token'" not in text and "ann" in text


def test_one_login_is_for_each_host() -> None:
    credentials = Credentials("ann", "x")
    assert OneLogin(credentials).find("any.example", "a/b") is credentials
    assert OneLogin().find("any.example") is None
