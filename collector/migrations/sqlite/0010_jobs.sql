-- Jobs of the scheduler. Times are UTC microseconds.

CREATE TABLE etl_jobs (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    job         TEXT NOT NULL,
    due         INTEGER,          -- for when it was planned; NULL: started by hand
    attempt     INTEGER NOT NULL, -- 1 the first time
    owner       TEXT NOT NULL,    -- which collector
    status      TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'interrupted')),
    started_at  INTEGER NOT NULL,
    alive_at    INTEGER NOT NULL, -- last sign of life
    finished_at INTEGER,
    steps_done  INTEGER NOT NULL DEFAULT 0,
    steps       INTEGER NOT NULL DEFAULT 0, -- 0: not known
    rows        INTEGER,
    detail      TEXT,
    error       TEXT
) STRICT;
CREATE UNIQUE INDEX etl_jobs_one_at_a_time ON etl_jobs (job) WHERE status = 'running';
CREATE INDEX etl_jobs_by_job ON etl_jobs (job, number);

-- Up to which planned time a job was begun: what is planned later is due.
CREATE TABLE etl_marks (
    job TEXT PRIMARY KEY,
    due INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which collector starts planned jobs, and until when it may without asking again.
CREATE TABLE etl_leader (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    owner TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;

-- How good the data of a day is; days are those of the time zone in [jobs].
CREATE TABLE quality_reports (
    day            TEXT NOT NULL, -- 2026-03-29
    series_id      INTEGER NOT NULL,
    good           INTEGER NOT NULL,
    uncertain      INTEGER NOT NULL,
    bad            INTEGER NOT NULL,
    manual         INTEGER NOT NULL,
    completeness   REAL NOT NULL, -- 0 to 1
    longest_gap_us INTEGER NOT NULL,
    spacing_us     INTEGER,
    step           REAL,
    score          REAL NOT NULL, -- 0 to 100
    made_at        INTEGER NOT NULL,
    PRIMARY KEY (day, series_id)
) STRICT, WITHOUT ROWID;
