"""What instructions make of a configuration; more cases are in test_changes, for `--change`."""

from __future__ import annotations

import pytest

from layerstore.containerfile.config_changes import ConfigChanges
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.parse import parse
from layerstore.oci.json_values import Object


def applied(config: Object, *lines: str) -> tuple[Object, list[str | None]]:
    changes = ConfigChanges(config)
    found = parse("\n".join(["FROM x", *lines])).instructions[1:]
    return changes.config, [changes.apply(one) for one in found]


def test_a_variable_keeps_its_place() -> None:
    config, comments = applied({"Env": ["A=1", "B=2"]}, "ENV A=3 C=4 C=5")
    assert config == {"Env": ["A=3", "B=2", "C=5"]}
    assert comments == ["ENV A=3 C=4 C=5"]


def test_a_shell_is_used_from_its_line_on() -> None:
    config, comments = applied({}, "CMD a", 'SHELL ["/b", "-x"]', "ENTRYPOINT c d")
    assert config["Cmd"] == ["/bin/sh", "-c", "a"]
    assert config["Entrypoint"] == ["/b", "-x", "c d"]
    assert comments[1:] == ["SHELL [/b -x]", 'ENTRYPOINT ["/b" "-x" "c d"]']


def test_the_command_of_the_base_goes_with_its_entrypoint() -> None:
    base: Object = {"Cmd": ["old"]}
    assert applied(base, 'ENTRYPOINT ["e"]')[0]["Cmd"] is None
    assert applied(base, "CMD new", 'ENTRYPOINT ["e"]')[0]["Cmd"] == ["/bin/sh", "-c", "new"]
    assert base == {"Cmd": ["old"]}


def test_a_health_check_keeps_times_that_it_does_not_set() -> None:
    # docker merges it with the configuration before.
    config, comments = applied(
        {}, "HEALTHCHECK --interval=5s --retries=3 CMD a b", "HEALTHCHECK NONE"
    )
    assert config["Healthcheck"] == {"Test": ["NONE"], "Interval": 5_000_000_000, "Retries": 3}
    assert comments == [
        'HEALTHCHECK &{["CMD-SHELL" "a b"] "5s" "0s" "0s" \'\\x03\'}',
        'HEALTHCHECK &{["NONE"] "0s" "0s" "0s" \'\\x00\'}',
    ]


@pytest.mark.parametrize(
    ("port", "exposed"),
    [
        ("80", ["80/tcp"]),
        ("53/UDP", ["53/udp"]),
        ("1-3/sctp", ["1/sctp", "2/sctp", "3/sctp"]),
        ("8080:80", ["80/tcp"]),
        ("127.0.0.1::80", ["80/tcp"]),
    ],
)
def test_ports(port: str, exposed: list[str]) -> None:
    config, _ = applied({}, f"EXPOSE {port}")
    assert config == {"ExposedPorts": {name: {} for name in exposed}}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("EXPOSE 0", "Invalid containerPort: 0"),
        ("EXPOSE 3-1", "Invalid containerPort: 3-1"),
        ("EXPOSE 80/icmp", "Invalid containerPort: 80/icmp"),
        ("STOPSIGNAL FOO", "Invalid signal: FOO"),
        ("STOPSIGNAL 0", "Invalid signal: 0"),
    ],
)
def test_what_is_refused(line: str, reason: str) -> None:
    with pytest.raises(ContainerfileError, match=f"Containerfile:2: {reason}"):
        applied({}, line)


@pytest.mark.parametrize("signal", ["SIGINT", "int", "9", "RTMIN+3", "SIGRTMAX-14", "SIGRTMIN"])
def test_signals(signal: str) -> None:
    assert applied({}, f"STOPSIGNAL {signal}")[0] == {"StopSignal": signal}


def test_instructions_that_make_a_layer_change_nothing() -> None:
    assert applied({"User": "u"}, "RUN x", "COPY a b", "ADD a b") == ({"User": "u"}, [None] * 3)
