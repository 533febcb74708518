"""Instructions of `--change` do what docker 20.10 makes of them."""

from __future__ import annotations

import pytest

from layerstore.containerfile.changes import apply_changes
from layerstore.errors import StoreError
from layerstore.oci.documents import Object

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        (["CMD echo hi there"], {"Cmd": ["/bin/sh", "-c", "echo hi there"]}),
        (['CMD ["/bin/sh", "-c", "x"]'], {"Cmd": ["/bin/sh", "-c", "x"]}),
        (["CMD ['x']"], {"Cmd": ["/bin/sh", "-c", "['x']"]}),
        (['CMD ["a" "b"]'], {"Cmd": ["/bin/sh", "-c", '["a" "b"]']}),
        (["cmd []"], {"Cmd": []}),
        (["ENTRYPOINT /x y"], {"Entrypoint": ["/bin/sh", "-c", "/x y"], "Cmd": None}),
        (['CMD ["a"]', 'ENTRYPOINT ["/x"]'], {"Cmd": ["a"], "Entrypoint": ["/x"]}),
        (['ENTRYPOINT ["/x"]', 'CMD ["a"]'], {"Cmd": ["a"], "Entrypoint": ["/x"]}),
        ([r'ENV A=b C="d e" D=f\ g'], {"Env": ["A=b", "C=d e", "D=f g"]}),
        (["ENV A b  c"], {"Env": ["A=b  c"]}),
        (
            ["ENV A=1", "ENV B=$A-${A}-${C:-def}-${A:+alt} A=2"],
            {"Env": ["A=2", "B=1-1-def-alt"]},
        ),
        (["ENV A=1", r"ENV B=\$A C='$A' D=\"$A\""], {"Env": ["A=1", "B=$A", "C=$A", 'D="1"']}),
        (["ENV A=1", 'ENV B="$A \\"q\\""'], {"Env": ["A=1", 'B=1 "q"']}),
        (["ENV A=1", "ENV B=2", "ENV A=3"], {"Env": ["A=3", "B=2"]}),
        (
            ["EXPOSE 80 443/udp 1000-1001"],
            {"ExposedPorts": {"80/tcp": {}, "443/udp": {}, "1000/tcp": {}, "1001/tcp": {}}},
        ),
        (["EXPOSE 80", "EXPOSE 81"], {"ExposedPorts": {"80/tcp": {}, "81/tcp": {}}}),
        (
            ['LABEL a=b "c d"="e f" g=$X'],
            {"Labels": {"a": "b", "c d": "e f", "g": ""}},
        ),
        (["LABEL a b"], {"Labels": {"a": "b"}}),
        (["USER me:grp"], {"User": "me:grp"}),
        (["USER $A", "ENV A=1", "USER $A"], {"User": "1", "Env": ["A=1"]}),
        (["WORKDIR a", "WORKDIR /b/../c/", "WORKDIR d"], {"WorkingDir": "/c/d"}),
        (["VOLUME /a /b"], {"Volumes": {"/a": {}, "/b": {}}}),
        (['VOLUME ["/a b"]'], {"Volumes": {"/a b": {}}}),
        (["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
        (["ONBUILD RUN x y"], {"OnBuild": ["RUN x y"]}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (['HEALTHCHECK CMD ["a","b"]'], {"Healthcheck": {"Test": ["CMD", "a", "b"]}}),
        (
            ["HEALTHCHECK --interval=1m30s --timeout=3s --retries=2 CMD curl -f x"],
            {
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "curl -f x"],
                    "Interval": 90 * SECOND,
                    "Timeout": 3 * SECOND,
                    "Retries": 2,
                }
            },
        ),
        (["# why\nENV A=1\nCMD b"], {"Env": ["A=1"], "Cmd": ["/bin/sh", "-c", "b"]}),
    ],
)
def test_instructions(changes: list[str], config: Object) -> None:
    assert apply_changes({}, changes) == config


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("FOO x", "foo is not a valid change command"),
        ("RUN x", "run is not a valid change command"),
        ("", "file with no instructions"),
        ("# comment", "file with no instructions"),
        ("ENV A", "ENV must have two arguments"),
        (
            "ENV A=b C",
            'Syntax error - can\'t find = in "C". Must be of the form: name=value',
        ),
        ("ENV =b", "ENV names can not be blank"),
        ("LABEL", "LABEL requires at least one argument"),
        ("CMD [1]", "Only strings are supported in JSON arrays"),
        ("EXPOSE foo", "Invalid containerPort: foo"),
        ("EXPOSE 99999", "Invalid containerPort: 99999"),
        ("EXPOSE ٣", "Invalid containerPort: ٣"),
        ("HEALTHCHECK --timeout=٣s CMD a", 'time: invalid duration "٣s"'),
        (
            "HEALTHCHECK --retries=٣ CMD a",
            'strconv.ParseInt: parsing "٣": invalid syntax',
        ),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ("ONBUILD ONBUILD x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK FOO", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --foo=1 CMD a", "unknown flag: --foo"),
        ("HEALTHCHECK --interval=0.1ms CMD a", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --timeout=x CMD a", 'time: invalid duration "x"'),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries cannot be negative (-1)"),
    ],
)
def test_refusals_are_dockers(change: str, complaint: str) -> None:
    with pytest.raises(StoreError) as raised:
        apply_changes({}, [change])
    assert str(raised.value) == complaint


def test_what_was_there_is_added_to_and_left_alone_itself() -> None:
    before: Object = {"Env": ["PATH=/bin"], "Labels": {"a": "1"}, "WorkingDir": "/w", "Cmd": ["c"]}
    copy = dict(before)
    after = apply_changes(before, ["ENV B=$PATH", "LABEL b=2", "WORKDIR x", 'ENTRYPOINT ["e"]'])
    assert after == {
        "Env": ["PATH=/bin", "B=/bin"],
        "Labels": {"a": "1", "b": "2"},
        "WorkingDir": "/w/x",
        "Entrypoint": ["e"],
        "Cmd": None,
    }
    assert before == copy
