-- Of every archive day (a UTC day, counted from 1970-01-01) whether the archive has what is here.

CREATE TABLE archive_days (
    day         integer PRIMARY KEY,
    version     bigint NOT NULL,           -- grows with every flush that changes a reading of the day
    exported    bigint NOT NULL DEFAULT 0, -- the version that the archive has; 0: none
    warm_rows   bigint,                    -- what was read here for that, and the hashes of the rows, XORed
    warm_xor    bigint,
    cold_rows   bigint,                    -- what was read back from the archive
    cold_xor    bigint,
    exported_at timestamptz,
    -- 'leaving' and 'gone': the archive answers for the day; what is still here is on its way there.
    raw         text NOT NULL DEFAULT 'here' CHECK (raw IN ('here', 'leaving', 'gone'))
) WITH (fillfactor = 50); -- every flush changes a row: room for that within the page
CREATE INDEX archive_days_left ON archive_days (day) WHERE raw <> 'here';

-- Of each series the newest reading that has left.
CREATE TABLE left_latest (
    series_id integer PRIMARY KEY,
    ts        timestamptz NOT NULL,
    value     double precision,
    quality   smallint NOT NULL,
    revision  bigint NOT NULL
);

-- All days that have readings now are still to be archived. Every reading's hour has a rollup, or its bucket is dirty.
INSERT INTO archive_days (day, version)
SELECT DISTINCT (bucket AT TIME ZONE 'UTC')::date - DATE '1970-01-01', 1
FROM (SELECT bucket FROM rollup_1h UNION SELECT bucket FROM dirty_buckets) AS b;
