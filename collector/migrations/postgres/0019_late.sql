-- How many readings of each hour came late; hours are UTC.
CREATE TABLE late_hours (
    series_id integer NOT NULL,
    hour      timestamptz NOT NULL,
    readings  bigint NOT NULL,
    PRIMARY KEY (series_id, hour)
);
CREATE INDEX late_hours_by_hour ON late_hours (hour);

ALTER TABLE quality_reports ADD COLUMN late bigint NOT NULL DEFAULT 0;
