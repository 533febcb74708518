"""The fixtures of the interop tests."""

from __future__ import annotations

from tests.helpers.dockerd import docker as docker
from tests.helpers.layers import handmade_layers as handmade_layers
