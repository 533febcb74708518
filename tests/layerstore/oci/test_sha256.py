"""The SHA-256 of small data is that of hashlib, at the edges of its blocks too."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from layerstore.oci.sha256 import sha256_hex, sha256_of


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 4096, (1 << 17) - 1, 1 << 17, 1 << 20])
def test_digests_are_those_of_hashlib(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert sha256_hex(data) == hashlib.sha256(data).hexdigest()


def test_what_is_hashed_in_parts() -> None:
    for size in (3, 1 << 16, 1 << 20):
        made = sha256_of(b"abc", 3 + size)
        made.update(bytes(size))
        assert made.digest() == hashlib.sha256(b"abc" + bytes(size)).digest()


def test_openssl_is_loaded_for_many_small_ones() -> None:
    code = (
        "import sys; from layerstore.oci.sha256 import sha256_of\n"
        "for _ in range(10): sha256_of(b'x', 1 << 13); assert 'hashlib' not in sys.modules\n"
        "for _ in range(10): sha256_of(b'x', 1 << 13)\n"
        "assert 'hashlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_openssl_is_loaded_only_for_much() -> None:
    code = (
        "import sys; from layerstore.oci.sha256 import sha256_hex\n"
        "sha256_hex(b'x'); assert 'hashlib' not in sys.modules\n"
        "sha256_hex(bytes(1 << 20)); assert 'hashlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
