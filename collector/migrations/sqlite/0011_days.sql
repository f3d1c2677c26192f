-- Of every archive day (a UTC day, counted from 1970-01-01) whether the archive has what is here.

CREATE TABLE archive_days (
    day         INTEGER PRIMARY KEY,
    version     INTEGER NOT NULL,           -- grows with every flush that changes a reading of the day
    exported    INTEGER NOT NULL DEFAULT 0, -- the version that the archive has; 0: none
    warm_rows   INTEGER,                    -- what was read here for that, and the hashes of the rows, XORed
    warm_xor    INTEGER,
    cold_rows   INTEGER,                    -- what was read back from the archive
    cold_xor    INTEGER,
    exported_at INTEGER,
    -- 'leaving' and 'gone': the archive answers for the day; what is still here is on its way there.
    raw         TEXT NOT NULL DEFAULT 'here' CHECK (raw IN ('here', 'leaving', 'gone'))
) STRICT;
CREATE INDEX archive_days_left ON archive_days (day) WHERE raw <> 'here';

-- Of each series the newest reading that has left.
CREATE TABLE left_latest (
    series_id INTEGER PRIMARY KEY,
    ts        INTEGER NOT NULL,
    value     REAL,
    quality   INTEGER NOT NULL,
    revision  INTEGER NOT NULL
) STRICT;

-- All days that have readings now are still to be archived. Every reading's hour has a rollup, or its bucket is dirty.
INSERT INTO archive_days (day, version)
SELECT DISTINCT (bucket - CASE WHEN bucket < 0 THEN 86399999999 ELSE 0 END) / 86400000000, 1
FROM (SELECT bucket FROM rollup_1h UNION SELECT bucket FROM dirty_buckets);
