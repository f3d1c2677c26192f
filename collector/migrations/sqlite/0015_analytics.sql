-- What is expected of series, and what is out of the ordinary. Times are UTC microseconds.

CREATE TABLE forecasts (
    series_id    INTEGER NOT NULL,
    origin       INTEGER NOT NULL, -- from when on
    model        TEXT NOT NULL,
    trained_from INTEGER NOT NULL,
    trained_to   INTEGER NOT NULL,
    made_at      INTEGER NOT NULL,
    points       TEXT NOT NULL,    -- JSON: one for each hour
    score        TEXT,             -- JSON: against what came; NULL: nothing came yet
    PRIMARY KEY (series_id, origin, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE anomalies (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    series_id INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    start_at  INTEGER NOT NULL,
    last_at   INTEGER NOT NULL,    -- up to when it was seen
    end_at    INTEGER,             -- NULL: it goes on
    severity  TEXT NOT NULL,
    expected  REAL,
    seen      REAL,
    detail    TEXT NOT NULL,
    state     TEXT NOT NULL,       -- open, acknowledged, closed
    normal    INTEGER NOT NULL,    -- 1: a person says that it is how things are now
    UNIQUE (series_id, kind, start_at)
) STRICT;
CREATE INDEX anomalies_by_time ON anomalies (series_id, last_at);

-- What people said about them.
CREATE TABLE anomaly_notes (
    anomaly INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    who     TEXT NOT NULL,
    what    TEXT NOT NULL,         -- acknowledge, comment, close
    comment TEXT NOT NULL,
    PRIMARY KEY (anomaly, at, who, what)
) STRICT, WITHOUT ROWID;
