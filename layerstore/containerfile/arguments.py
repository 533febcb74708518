"""ARG: the scopes of build arguments, and which of them the history of an image shows.

This module alone decides the scopes.  An ARG before the first FROM is visible in FROM
lines; a stage sees it only after an ARG of the same name.  A value of `--build-arg` wins
over a default.  The proxy variables need no ARG, and without one they are left out of the
history and of the cache key.  The platform variables are like ARGs before the first FROM.

Source: the Dockerfile reference, "ARG"; moby `builder/dockerfile/buildargs.go`.
"""

from __future__ import annotations

from collections.abc import Mapping

from layerstore.containerfile.instructions import Default
from layerstore.oci.platform import Platform

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PROXIES = frozenset((*_PROXIES, *map(str.lower, _PROXIES)))


def platform_arguments(target: Platform, build: Platform, stage: str) -> dict[str, str]:
    """Return BuildKit's platform variables; `stage` is the name of the target stage."""
    found = {"TARGETSTAGE": stage or "default"}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
    return found


class GlobalArguments:
    """The values of `--build-arg`, and the ARGs before the first FROM.

    `given` are the build arguments of the user; `automatic` those that every build has.
    """

    def __init__(
        self, given: Mapping[str, str], automatic: Mapping[str, str] | None = None
    ) -> None:
        self._given = dict(given)
        self._defaults = dict(automatic or {})
        self._seen: set[str] = set()

    def declare(self, default: Default) -> None:
        """Add an ARG, its default expanded."""
        self._seen.add(default.name)
        if default.value is not None:
            self._defaults[default.name] = default.value

    @property
    def values(self) -> dict[str, str]:
        """The variables that a FROM line sees."""
        proxies = {name: value for name, value in self._given.items() if name in PROXIES}
        given = {name: self._given[name] for name in self._defaults if name in self._given}
        given |= {name: self._given[name] for name in self._seen if name in self._given}
        return {**self._defaults, **proxies, **given}

    def stage(self) -> StageArguments:
        """Return the arguments of a new stage, which has no ARG yet."""
        return StageArguments(self._given, self._defaults, self._seen)

    def unused(self) -> list[str]:
        """Return the names of given arguments that no ARG has declared so far, sorted."""
        return sorted(name for name in self._given if name not in self._seen | PROXIES)


class StageArguments:
    """The build arguments of one stage, after the ARGs that were declared so far."""

    def __init__(self, given: Mapping[str, str], before: Mapping[str, str], seen: set[str]) -> None:
        self._given = given
        self._before = before
        self._seen = seen
        self._declared: dict[str, str | None] = {}
        self._values: Mapping[str, str] | None = None

    def declare(self, default: Default) -> None:
        """Add an ARG, its default expanded."""
        self._declared[default.name] = default.value
        self._seen.add(default.name)
        self._values = None

    @property
    def values(self) -> Mapping[str, str]:
        """The arguments that have a value, proxies included."""
        if self._values is None:
            self._values = self._find_values()
        return self._values

    def _find_values(self) -> dict[str, str]:
        found = {}
        for name in (*self._declared, *sorted(PROXIES.difference(self._declared))):
            value = self._given.get(name)
            if value is None and name in self._declared:
                value = self._declared[name]
                value = self._before.get(name) if value is None else value
            if value is not None:
                found[name] = value
        return found

    def recorded(self, environment: Mapping[str, str]) -> list[str]:
        """Return the sorted `name=value`s for the history entry and cache key of a RUN.

        `environment` are the variables of ENV, which win over an ARG.
        """
        return sorted(
            f"{name}={value}"
            for name, value in self.values.items()
            if name not in environment and (name in self._declared or name not in PROXIES)
        )
