-- What people changed, and why. Times are UTC microseconds.

CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    who    TEXT NOT NULL,
    what   TEXT NOT NULL, -- reading, import, quarantine
    detail TEXT NOT NULL  -- JSON
) STRICT;
