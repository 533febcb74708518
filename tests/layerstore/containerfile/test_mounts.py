"""`RUN --mount`: what each type accepts, its defaults, and what is refused."""

from __future__ import annotations

import pytest

from layerstore.containerfile.errors import ContainerfileError, Location
from layerstore.containerfile.instructions import (
    BindMount,
    CacheMount,
    Mount,
    SecretMount,
    TmpfsMount,
)
from layerstore.containerfile.mounts import read_flag, typed_mount

AT = Location("f", 1, 1, "RUN")


def mount(text: str, **values: str) -> Mount:
    def expand(word: str) -> str:
        for name, value in values.items():
            word = word.replace(f"${name}", value)
        return word

    return typed_mount(read_flag(text, AT), AT, "/w", expand)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", BindMount("/x")),
        ("type=bind,source=a,target=b", BindMount("/w/b", "a")),
        ("TYPE=bind,src=a,dst=/b,rw", BindMount("/b", "a", read_only=False)),
        ("type=bind,from=base,destination=/b,ro=false", BindMount("/b", "", "base", False)),
        ("type=bind,target=/b,rw=false", BindMount("/b")),
        ("type=cache,target=/c", CacheMount("/c", "/c")),
        ("type=cache,target=c/../d", CacheMount("/w/d", "d")),
        (
            "type=cache,id=k,target=/c,sharing=locked,mode=0700,uid=1,gid=2,ro",
            CacheMount("/c", "k", "locked", read_only=True, mode=0o700, uid=1, gid=2),
        ),
        ("type=cache,target=/c,from=b,source=/s", CacheMount("/c", "/c", source="/s", stage="b")),
        ("type=tmpfs,target=/t", TmpfsMount("/t")),
        ("type=tmpfs,target=/t,size=10m", TmpfsMount("/t", 10 << 20)),
        ("type=secret,id=k", SecretMount("k", "/run/secrets/k")),
        ("type=secret,source=a/k", SecretMount("a/k", "/run/secrets/k")),
        ("type=secret,target=/root/.netrc", SecretMount(".netrc", "/root/.netrc")),
        ("type=secret,id=k,env=V", SecretMount("k", "", "V")),
        ("type=secret,id=k,env=V,target=/f", SecretMount("k", "/f", "V")),
        (
            "type=secret,id=k,required,mode=0444,uid=7",
            SecretMount("k", "/run/secrets/k", required=True, mode=0o444, uid=7),
        ),
        ('type=bind,"source=a,b",target=/x', BindMount("/x", "a,b")),
    ],
)
def test_mount(text: str, expected: Mount) -> None:
    assert mount(text) == expected


def test_variables_are_replaced_in_values() -> None:
    assert mount("type=$t,target=/$x,id=$i", t="cache", x="c", i="k") == CacheMount("/c", "k")
    assert mount("type=cache,target=/c,uid=$u", u="5") == CacheMount("/c", "/c", uid=5)


def test_a_target_is_beneath_the_working_directory_of_the_step() -> None:
    flag = read_flag("type=bind,target=.", AT)
    assert typed_mount(flag, AT, "/src", str).target == "/src"
    assert typed_mount(read_flag("target=../b", AT), AT, "/src/a", str).target == "/src/b"
    with pytest.raises(ContainerfileError, match=r'invalid mount target "\."'):
        typed_mount(flag, AT, "/", str)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("type=bind,target=/x,sorce=a", "unexpected key 'sorce' in 'sorce=a' (did you mean source"),
        ("type=volume,target=/x", 'unsupported mount type "volume"'),
        ("type=cahce,target=/x", "(did you mean cache?)"),
        ("type=ssh", "mounts of type ssh are not supported"),
        ("type=bind,target", "invalid field 'target' must be a key=value pair"),
        ("type=bind", "a mount needs a target"),
        ("type=bind,target=/", 'invalid mount target "/"'),
        ("type=bind,target=/../.", 'invalid mount target "/../."'),
        ("type=bind,target=/x,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=bind,target=/x,mode=1", "unexpected key 'mode' for mount type 'bind'"),
        ("type=tmpfs,target=/x,source=a", "unexpected key 'source' for mount type 'tmpfs'"),
        ("type=tmpfs,target=/x,size=1q", "invalid value for size: 1q"),
        ("type=tmpfs,target=/x,ro", "would stay empty"),
        ("type=cache,target=/x,sharing=all", 'unsupported sharing value "all"'),
        ("type=cache,target=/x,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/x,uid=-1", "invalid value -1 for uid"),
        ("type=cache,target=/x,uid=4294967296", "invalid value 4294967296 for uid"),
        ("type=cache,target=/x,ro=maybe", "invalid value for readonly: maybe"),
        ("type=secret", "one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "unexpected key 'from' for mount type 'secret'"),
        ("type=bind,target=/x,from=$a", "'from' doesn't support variable expansion"),
        ('type=bind,"target=/x', "--mount="),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ContainerfileError) as caught:
        read_flag(text, AT)
    assert reason in str(caught.value)


def test_a_fault_that_only_a_variable_shows_is_found_when_it_is_known() -> None:
    flag = read_flag("type=cache,target=/x,uid=$u", AT)
    with pytest.raises(ContainerfileError, match="invalid value x for uid"):
        typed_mount(flag, AT, "/", lambda word: word.replace("$u", "x"))
