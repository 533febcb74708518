"""The fixture of the interop tests."""

from __future__ import annotations

from tests.helpers.layers import handmade_layers as handmade_layers
