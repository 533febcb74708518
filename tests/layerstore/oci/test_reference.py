"""Names of images: docker's grammar, its defaults and its errors."""

from __future__ import annotations

import pytest

from layerstore.errors import InvalidReference
from layerstore.oci.reference import (
    Reference,
    familiar,
    parse_reference,
    parse_tag_target,
)

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "repository", "rest", "shown"),
    [
        ("debian", "docker.io/library/debian", None, "debian"),
        ("debian:12", "docker.io/library/debian", "12", "debian:12"),
        ("user/app:1.0", "docker.io/user/app", "1.0", "user/app:1.0"),
        ("library/debian", "docker.io/library/debian", None, "debian"),
        ("docker.io/debian", "docker.io/library/debian", None, "debian"),
        ("index.docker.io/library/x", "docker.io/library/x", None, "x"),
        ("docker.io/library/a/b", "docker.io/library/a/b", None, "library/a/b"),
        ("localhost/x:t", "localhost/x", "t", "localhost/x:t"),
        ("localhost:5000/x", "localhost:5000/x", None, "localhost:5000/x"),
        ("registry.example/a/b:c", "registry.example/a/b", "c", "registry.example/a/b:c"),
        ("[::1]:5000/x", "[::1]:5000/x", None, "[::1]:5000/x"),
        ("Host/x", "Host/x", None, "Host/x"),
        ("a__b/c--d.e", "docker.io/a__b/c--d.e", None, "a__b/c--d.e"),
    ],
)
def test_name_in_full_and_as_shown(
    text: str, repository: str, rest: str | None, shown: str
) -> None:
    reference = parse_reference(text)
    assert reference == Reference(repository, rest, None)
    assert familiar(reference) == shown
    assert parse_reference(str(reference)) == reference


def test_digest_stands_for_itself() -> None:
    reference = parse_reference(f"debian@{DIGEST}")
    assert reference.digest == DIGEST and reference.tag is None
    assert reference.with_default_tag() == reference
    assert familiar(reference) == f"debian@{DIGEST}"
    both = parse_reference(f"debian:12@{DIGEST}")
    assert (both.tag, both.digest) == ("12", DIGEST)


def test_default_tag_is_latest() -> None:
    assert parse_reference("debian").with_default_tag().tag == "latest"
    assert parse_reference("debian:12").with_default_tag().tag == "12"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/../b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a@sha256:12", "invalid reference format"),
        ("a@sha256:" + "b" * 63, "invalid digest"),
        ("a\n", "invalid reference format"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("x/Foo:T", "invalid reference format: repository name (x/Foo) must be lowercase"),
        ("a" * 256, "repository name must not be more than 255 characters"),
        (
            "ab" * 32,
            f"invalid repository name ({'ab' * 32}), cannot specify 64-byte hexadecimal strings",
        ),
    ],
)
def test_what_is_no_name_is_refused_in_dockers_words(text: str, error: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_reference(text)
    assert str(caught.value).startswith(error)


def test_what_an_image_can_be_tagged_with() -> None:
    assert parse_tag_target("x") == Reference("docker.io/library/x", "latest", None)
    with pytest.raises(InvalidReference, match="refusing to create a tag with a digest"):
        parse_tag_target(f"x@{DIGEST}")
    with pytest.raises(InvalidReference, match="ambiguous tag using digest algorithm as name"):
        parse_tag_target("sha256:12")
    with pytest.raises(InvalidReference) as caught:
        parse_tag_target("a:b:c")
    assert str(caught.value) == (
        'error parsing reference: "a:b:c" is not a valid repository/tag: invalid reference format'
    )
