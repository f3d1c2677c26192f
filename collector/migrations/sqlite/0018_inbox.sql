-- What other producers leave for us, and what became of it.

-- Whoever may write into this file writes here. A row goes when its reading is stored.
CREATE TABLE inbox (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    node     TEXT NOT NULL,
    metric   TEXT NOT NULL,
    channel  TEXT NOT NULL DEFAULT '',
    ts       TEXT NOT NULL, -- 2026-03-29T01:00:00Z, or microseconds since 1970
    value    REAL,
    unit     TEXT,          -- NULL: the metric's own
    quality  TEXT,          -- good, uncertain, bad, manual; NULL: good
    revision INTEGER        -- a higher one overrules what stands there
) STRICT;

-- Rows that could not be taken, and why.
CREATE TABLE inbox_rejects (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL, -- inbox, or the name in [[inbox]]
    at     INTEGER NOT NULL,
    reason TEXT NOT NULL,
    line   TEXT NOT NULL,
    UNIQUE (source, line, reason)
) STRICT;

-- Up to which moment each node of a foreign table was read; moments as they stand there.
CREATE TABLE inbox_marks (
    source TEXT NOT NULL,
    node   TEXT NOT NULL,
    until  TEXT NOT NULL,
    PRIMARY KEY (source, node)
) STRICT, WITHOUT ROWID;
