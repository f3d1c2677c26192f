-- What other producers leave for us, and what became of it.

-- GRANT INSERT ON inbox TO whoever may. A row goes when its reading is stored.
CREATE TABLE inbox (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node     text NOT NULL,
    metric   text NOT NULL,
    channel  text NOT NULL DEFAULT '',
    ts       text NOT NULL, -- 2026-03-29T01:00:00Z, a timestamptz, or microseconds since 1970
    value    double precision,
    unit     text,   -- NULL: the metric's own
    quality  text,   -- good, uncertain, bad, manual; NULL: good
    revision bigint  -- a higher one overrules what stands there
);

-- Rows that could not be taken, and why.
CREATE TABLE inbox_rejects (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL, -- inbox, or the name in [[inbox]]
    at     timestamptz NOT NULL,
    reason text NOT NULL,
    line   text NOT NULL,
    UNIQUE (source, line, reason)
);

-- Up to which moment each node of a foreign table was read; moments as they stand there, which sort as text.
CREATE TABLE inbox_marks (
    source text NOT NULL,
    node   text NOT NULL,
    until  text COLLATE "C" NOT NULL,
    PRIMARY KEY (source, node)
);
