-- Up to which version of its archive days a day's reports were made.
CREATE TABLE quality_days (
    day     text PRIMARY KEY,
    version bigint NOT NULL
);
