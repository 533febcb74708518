"""The tables of store.db, as the steps that lead from each version to the next.

Decided here and only here: the tables and columns of the database.  A new store takes
the same steps as an old one, so that the two cannot differ.  A step that a store may have
taken is never changed; a further change is a further step.

layers      a directory each, named by its chain_id; `location` says where the
            directory is as long as it has not been moved to its place
images      the id is the digest of the configuration, which is a blob; `top` is
            the chain of its last layer, NULL for an image without layers
tags, repo_digests
            the names of images; repo_digests are names by the digest of a manifest, which is
            of one image, or of an index, which may name one for each platform: of these the
            name means the one that got it last (`named_ns`)
manifests   documents as they came, kept so that their digests survive `save` and `push`: the
            manifests of an image, and the indexes that it was chosen from
layer_blobs the tar (compressed or not) that a layer was unpacked from, kept for the same reason
packed_layers
            the digest of a layer's tar as it was packed for a registry; its bytes are not
            kept
blob_places the repositories that are known to hold a blob of a layer
containers  see `layerstore.containers.containers`; `published` counts its frozen layers
            that `base` holds by now; `runner` is the process that waits for its end
build_steps, file_digests, containerfiles
            see `layerstore.db.build_table`
volumes, volume_uses
            see `layerstore.db.volume_table`
leases      see `layerstore.db.leases`

Times are ns since 1970; sizes are bytes.
"""

from __future__ import annotations

BASE = """
CREATE TABLE layers (
    chain_id   TEXT PRIMARY KEY,
    parent     TEXT REFERENCES layers (chain_id),
    diff_id    TEXT NOT NULL,
    size       INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    location   TEXT
) WITHOUT ROWID, STRICT;
CREATE INDEX layers_parent ON layers (parent);
CREATE INDEX layers_diff_id ON layers (diff_id);
CREATE INDEX layers_location ON layers (location) WHERE location IS NOT NULL;

CREATE TABLE images (
    id           TEXT PRIMARY KEY,
    top          TEXT REFERENCES layers (chain_id),
    parent       TEXT,
    created_ns   INTEGER NOT NULL,
    added_ns     INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    architecture TEXT NOT NULL,
    os           TEXT NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX images_top ON images (top);
CREATE INDEX images_parent ON images (parent) WHERE parent IS NOT NULL;

CREATE TABLE tags (
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    image      TEXT NOT NULL REFERENCES images (id),
    tagged_ns  INTEGER NOT NULL,
    PRIMARY KEY (repository, tag)
) WITHOUT ROWID, STRICT;
CREATE INDEX tags_image ON tags (image);

CREATE TABLE repo_digests (
    repository TEXT NOT NULL,
    digest     TEXT NOT NULL,
    image      TEXT NOT NULL REFERENCES images (id),
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID, STRICT;
CREATE INDEX repo_digests_image ON repo_digests (image);

CREATE TABLE manifests (
    digest     TEXT PRIMARY KEY,
    image      TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    media_type TEXT NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX manifests_image ON manifests (image);

CREATE TABLE layer_blobs (
    diff_id    TEXT NOT NULL,
    digest     TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size       INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest)
) WITHOUT ROWID, STRICT;
CREATE INDEX layer_blobs_digest ON layer_blobs (digest);

CREATE TABLE containers (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    image       TEXT NOT NULL,
    image_name  TEXT NOT NULL,
    base        TEXT REFERENCES layers (chain_id),
    published   INTEGER NOT NULL DEFAULT 0,
    config      TEXT NOT NULL,
    created_ns  INTEGER NOT NULL,
    status      TEXT NOT NULL,
    exit_code   INTEGER,
    pid         INTEGER,
    pid_start   INTEGER,
    started_ns  INTEGER,
    finished_ns INTEGER,
    mount_point TEXT,
    auto_remove INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID, STRICT;
CREATE INDEX containers_image ON containers (image);
CREATE INDEX containers_base ON containers (base);

CREATE TABLE leases (
    id         INTEGER PRIMARY KEY,
    within     INTEGER REFERENCES leases (id) ON DELETE CASCADE,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    pid        INTEGER NOT NULL,
    pid_start  INTEGER NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX leases_key ON leases (kind, key);
CREATE INDEX leases_within ON leases (within) WHERE within IS NOT NULL;
"""

# The number of a lease is never reused: a process that ends a stale lease by its
# number must not end a new one.
LEASE_NUMBERS = """
CREATE TABLE new_leases (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    within     INTEGER REFERENCES new_leases (id) ON DELETE CASCADE,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    pid        INTEGER NOT NULL,
    pid_start  INTEGER NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT;
INSERT INTO new_leases (id, within, kind, key, pid, pid_start, created_ns)
    SELECT id, within, kind, key, pid, pid_start, created_ns FROM leases ORDER BY id;
DROP TABLE leases;
ALTER TABLE new_leases RENAME TO leases;
CREATE INDEX leases_key ON leases (kind, key);
CREATE INDEX leases_within ON leases (within) WHERE within IS NOT NULL;
"""

# The process that waits for the container's end, to record it.  Containers that ran
# before the step have none; their `pid` alone counts.
RUNNERS = """
ALTER TABLE containers ADD COLUMN runner INTEGER;
ALTER TABLE containers ADD COLUMN runner_start INTEGER;
"""

# Several images, one for each platform, come from one index.  `compression` is the kind and
# the level, as "gzip:2".
REGISTRIES = """
CREATE TABLE new_manifests (
    digest     TEXT NOT NULL,
    image      TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    media_type TEXT NOT NULL,
    PRIMARY KEY (digest, image)
) WITHOUT ROWID, STRICT;
INSERT INTO new_manifests (digest, image, media_type)
    SELECT digest, image, media_type FROM manifests;
DROP TABLE manifests;
ALTER TABLE new_manifests RENAME TO manifests;
CREATE INDEX manifests_image ON manifests (image);

CREATE TABLE packed_layers (
    diff_id     TEXT NOT NULL,
    digest      TEXT NOT NULL,
    media_type  TEXT NOT NULL,
    size        INTEGER NOT NULL,
    compression TEXT NOT NULL,
    PRIMARY KEY (diff_id, digest)
) WITHOUT ROWID, STRICT;
CREATE INDEX packed_layers_digest ON packed_layers (digest);

CREATE TABLE blob_places (
    digest     TEXT NOT NULL,
    repository TEXT NOT NULL,
    seen_ns    INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID, STRICT;
"""

# `key` is the SHA-256 of all that a step depends on; `chain` is what it led to, NULL for no
# layers.  A file's digest is valid as long as its size and times are these;
# `header` is a hash of its name, mode and owner.  The oldest of too many go by their id.
BUILDS = """
CREATE TABLE build_steps (
    key        TEXT PRIMARY KEY,
    chain      TEXT REFERENCES layers (chain_id) ON DELETE CASCADE,
    diff_id    TEXT,
    created_ns INTEGER NOT NULL,
    created_by TEXT NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX build_steps_chain ON build_steps (chain) WHERE chain IS NOT NULL;

CREATE TABLE file_digests (
    id       INTEGER PRIMARY KEY,
    dev      INTEGER NOT NULL,
    ino      INTEGER NOT NULL,
    header   BLOB NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    digest   BLOB NOT NULL,
    UNIQUE (dev, ino, header)
) STRICT;
"""

# Several images, one for each platform, have the digest of their index.
PLATFORMS = """
CREATE TABLE new_repo_digests (
    repository TEXT NOT NULL,
    digest     TEXT NOT NULL,
    image      TEXT NOT NULL REFERENCES images (id),
    named_ns   INTEGER NOT NULL,
    PRIMARY KEY (repository, digest, image)
) WITHOUT ROWID, STRICT;
INSERT INTO new_repo_digests (repository, digest, image, named_ns)
    SELECT repository, digest, image, 0 FROM repo_digests;
DROP TABLE repo_digests;
ALTER TABLE new_repo_digests RENAME TO repo_digests;
CREATE INDEX repo_digests_image ON repo_digests (image);
"""


# `labels` is JSON, NULL for a volume that was made for a container.
VOLUMES = """
CREATE TABLE volumes (
    name       TEXT PRIMARY KEY,
    labels     TEXT,
    created_ns INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE volume_uses (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    target    TEXT NOT NULL,
    volume    TEXT NOT NULL REFERENCES volumes (name),
    read_only INTEGER NOT NULL,
    named     INTEGER NOT NULL,
    filled    INTEGER NOT NULL,
    PRIMARY KEY (container, target)
) WITHOUT ROWID, STRICT;
CREATE INDEX volume_uses_volume ON volume_uses (volume);
"""

# The oldest of too many go by their id.
CONTAINERFILES = """
CREATE TABLE containerfiles (
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,
    parsed TEXT NOT NULL
) STRICT;
"""

STEPS: tuple[str, ...] = (
    *(BASE, LEASE_NUMBERS, RUNNERS, REGISTRIES, BUILDS, PLATFORMS, VOLUMES, CONTAINERFILES),
)
VERSION = len(STEPS)
