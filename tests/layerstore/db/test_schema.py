"""The steps of the schema: what a store may have taken stays as it was."""

from __future__ import annotations

import hashlib

import pytest

from layerstore import Store
from layerstore.db import schema

TAKEN = [
    "93a921c4fb9929ea77147a52e49c180904aa8239b085cd3c20f9f9ce9f0bdfac",
    "7cec1e5f1032f5cf9f3559f75432b6496a53b99909a1831272902200ced87197",
    "44e3419a40f3cf303268aa24b46a5e124911320e48bdc2f5f89e5903943533f2",
    "32d65c201958bed3cc0e89d90e96049e401581ac1886fb5234ff24af3ead563b",
    "e1491912159e4264dcc418af6765a6e9b2d80987982f882dcf10768032072fcb",
    "88741124afc593f97f741448b8d13c7139586a7e8d19d6d0049794bfa0e3c5f4",
    "25c040a74650d7c9f3f0df42ce04c41afe2387db79afd02cfca39351941dc4e9",
    "1b2f9b147ef3327c48fe83c9370e6867c0df721c6734b13548de85cf53523a78",
]


@pytest.mark.parametrize("step", range(len(TAKEN)))
def test_step_that_stores_have_taken_is_not_changed(step: int) -> None:
    """Add a step instead, and its digest here."""
    assert hashlib.sha256(schema.STEPS[step].encode()).hexdigest() == TAKEN[step]


def test_every_step_is_recorded_here() -> None:
    assert len(schema.STEPS) == len(TAKEN) == schema.VERSION


def test_listing_needs_no_scan_of_another_table(store: Store) -> None:
    """What is asked for each layer, image or container is found by an index."""
    for sql in (
        "SELECT 1 FROM layers WHERE parent = 'x'",
        "SELECT 1 FROM images WHERE top = 'x'",
        "SELECT 1 FROM images WHERE parent = 'x'",
        "SELECT 1 FROM images WHERE id >= 'x' AND id < 'y'",
        "SELECT 1 FROM containers WHERE base = 'x'",
        "SELECT 1 FROM containers WHERE image = 'x'",
        "SELECT 1 FROM containers WHERE name = 'x'",
        "SELECT 1 FROM tags WHERE image = 'x'",
        "SELECT 1 FROM tags WHERE repository = 'x' AND tag = 'y'",
        "SELECT 1 FROM repo_digests WHERE image = 'x'",
        "SELECT 1 FROM layer_blobs WHERE digest = 'x'",
        "SELECT 1 FROM manifests WHERE image = 'x'",
        "SELECT 1 FROM manifests WHERE digest = 'x'",
        "SELECT 1 FROM packed_layers WHERE diff_id = 'x'",
        "SELECT 1 FROM packed_layers WHERE digest = 'x'",
        "SELECT 1 FROM blob_places WHERE digest = 'x'",
        "SELECT 1 FROM build_steps WHERE key = 'x'",
        "SELECT 1 FROM build_steps WHERE chain = 'x'",
        "SELECT 1 FROM file_digests WHERE dev = 1 AND ino = 1 AND header = x'00'",
        "SELECT 1 FROM containerfiles WHERE key = 'x'",
        "SELECT 1 FROM layers WHERE location IS NOT NULL",
        "SELECT 1 FROM volume_uses WHERE container = 'x'",
        "SELECT 1 FROM volume_uses WHERE volume = 'x'",
    ):
        plan = store.database.read(f"EXPLAIN QUERY PLAN {sql}")
        assert all("SEARCH" in str(row[3]) or "INDEX" in str(row[3]) for row in plan), (sql, plan)
