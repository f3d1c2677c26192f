-- Marks in dirty_buckets are only taken away of buckets that ended by then, microseconds since 1970. It rises while no commit is
-- under way, so that a collector needn't mark a later bucket again that it has marked before.
CREATE TABLE rollup_horizon (
    one   integer PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    until bigint NOT NULL
);
INSERT INTO rollup_horizon (until) VALUES (-62135596800000000);
