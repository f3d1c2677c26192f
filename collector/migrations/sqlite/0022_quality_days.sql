-- Up to which version of its archive days a day's reports were made.
CREATE TABLE quality_days (
    day     TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
