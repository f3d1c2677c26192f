-- The warm tier. Times are UTC microseconds; a stream's number is the u64's bits as a signed integer.

CREATE TABLE gateways (
    gateway     TEXT PRIMARY KEY NOT NULL,
    first_heard INTEGER NOT NULL,
    last_heard  INTEGER NOT NULL,
    version     TEXT,
    status      TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE series (
    series_id      INTEGER PRIMARY KEY,
    node           TEXT NOT NULL,
    metric         TEXT NOT NULL,
    channel        TEXT NOT NULL,
    kind           TEXT NOT NULL,
    unit           TEXT NOT NULL,
    gateway        TEXT NOT NULL,
    resolution_exp INTEGER,
    interval_ms    INTEGER NOT NULL,
    silence_ms_max INTEGER NOT NULL,
    UNIQUE (node, metric, channel)
) STRICT;
CREATE INDEX series_by_gateway ON series (gateway);

-- Narrow: one row per reading. Who wins a (series, ts) is decided in the upsert (commit.rs).
CREATE TABLE readings (
    series_id INTEGER NOT NULL,
    ts        INTEGER NOT NULL,
    value     REAL,
    quality   INTEGER NOT NULL,
    revision  INTEGER NOT NULL,
    PRIMARY KEY (series_id, ts)
) STRICT, WITHOUT ROWID;

-- 5 minute buckets whose rollup doesn't show all their readings; their hour and day are as dirty as they are.
CREATE TABLE dirty_buckets (
    series_id INTEGER NOT NULL,
    bucket    INTEGER NOT NULL,
    PRIMARY KEY (series_id, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_5m (
    series_id INTEGER NOT NULL,
    bucket    INTEGER NOT NULL,
    good      INTEGER NOT NULL,
    uncertain INTEGER NOT NULL,
    bad       INTEGER NOT NULL,
    manual    INTEGER NOT NULL,
    begins    INTEGER NOT NULL,
    ends      INTEGER NOT NULL,
    -- from here on NULL when no reading has a value
    min       REAL,
    max       REAL,
    sum       REAL,
    first_ts  INTEGER,
    first     REAL,
    last_ts   INTEGER,
    last      REAL,
    integral  REAL,    -- value x seconds it held, between the first and the last reading
    covered   INTEGER, -- microseconds for which the value is known, between the first and the last reading
    delta     REAL,    -- growth of a counter between the first and the last usable reading
    resets    INTEGER,
    PRIMARY KEY (series_id, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_1h (
    series_id INTEGER NOT NULL,
    bucket    INTEGER NOT NULL,
    good      INTEGER NOT NULL,
    uncertain INTEGER NOT NULL,
    bad       INTEGER NOT NULL,
    manual    INTEGER NOT NULL,
    begins    INTEGER NOT NULL,
    ends      INTEGER NOT NULL,
    min       REAL,
    max       REAL,
    sum       REAL,
    first_ts  INTEGER,
    first     REAL,
    last_ts   INTEGER,
    last      REAL,
    integral  REAL,
    covered   INTEGER,
    delta     REAL,
    resets    INTEGER,
    PRIMARY KEY (series_id, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE streams (
    gateway   TEXT NOT NULL,
    stream    INTEGER NOT NULL,
    committed BLOB NOT NULL, -- postcard of the seq ranges
    highest   INTEGER NOT NULL,
    PRIMARY KEY (gateway, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE catalogues (
    hash    BLOB PRIMARY KEY NOT NULL,
    gateway TEXT NOT NULL,
    bytes   BLOB NOT NULL
) STRICT;

-- Exactly one of (offset_us) and (not_before, not_after) is there.
CREATE TABLE clock_fixes (
    gateway    TEXT NOT NULL,
    boot       BLOB NOT NULL,
    offset_us  INTEGER,
    not_before INTEGER,
    not_after  INTEGER,
    PRIMARY KEY (gateway, boot)
) STRICT, WITHOUT ROWID;

CREATE TABLE parked (
    gateway  TEXT NOT NULL,
    stream   INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    boot     BLOB NOT NULL,
    received INTEGER NOT NULL,
    bytes    BLOB NOT NULL,
    UNIQUE (gateway, stream, seq)
) STRICT;
CREATE INDEX parked_by_boot ON parked (gateway, boot);

CREATE TABLE gaps (
    gateway   TEXT NOT NULL,
    stream    INTEGER NOT NULL,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    span_from INTEGER,
    span_to   INTEGER,
    reason    TEXT NOT NULL,
    PRIMARY KEY (gateway, stream, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
    number   INTEGER PRIMARY KEY,
    gateway  TEXT NOT NULL,
    stream   INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    series   TEXT NOT NULL,
    ts       INTEGER NOT NULL,
    value    REAL,
    quality  INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    received INTEGER NOT NULL,
    UNIQUE (gateway, stream, seq, series, ts)
) STRICT;
