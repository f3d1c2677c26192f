-- How many readings of each hour came late; hours are UTC, and start at their microseconds since 1970.
CREATE TABLE late_hours (
    series_id INTEGER NOT NULL,
    hour      INTEGER NOT NULL,
    readings  INTEGER NOT NULL,
    PRIMARY KEY (series_id, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX late_hours_by_hour ON late_hours (hour);

ALTER TABLE quality_reports ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
