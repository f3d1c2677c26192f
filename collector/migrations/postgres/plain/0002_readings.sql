-- readings in partitions by day, rollups, and the views of the reference, on PostgreSQL alone.

-- Narrow: one row per reading. Who wins a (series_id, ts) is decided in commit.rs. The order of the columns leaves no
-- holes between them: 56 bytes a row.
CREATE TABLE readings (
    series_id integer NOT NULL,
    quality   smallint NOT NULL,
    ts        timestamptz NOT NULL,
    value     double precision,
    revision  bigint NOT NULL,
    PRIMARY KEY (series_id, ts)
) PARTITION BY RANGE (ts);

-- Days are made when they are needed (partitions.rs). What lies outside of these hundred years, or comes when there
-- are already too many days, still has a place.
CREATE TABLE readings_past PARTITION OF readings FOR VALUES FROM (MINVALUE) TO ('2000-01-01 00:00:00+00');
CREATE TABLE readings_future PARTITION OF readings FOR VALUES FROM ('2100-01-01 00:00:00+00') TO (MAXVALUE);
CREATE TABLE readings_other PARTITION OF readings DEFAULT;

CREATE TABLE rollup_5m (
    series_id integer NOT NULL,
    bucket    timestamptz NOT NULL,
    good      bigint NOT NULL,
    uncertain bigint NOT NULL,
    bad       bigint NOT NULL,
    manual    bigint NOT NULL,
    begins    timestamptz NOT NULL,
    ends      timestamptz NOT NULL,
    -- from here on NULL when no reading has a value
    min       double precision,
    max       double precision,
    sum       double precision,
    first_ts  timestamptz,
    first     double precision,
    last_ts   timestamptz,
    last      double precision,
    integral  double precision, -- value x seconds it held, between the first and the last reading
    covered   bigint, -- microseconds for which the value is known, between the first and the last reading
    delta     double precision, -- growth of a counter between the first and the last usable reading
    resets    bigint,
    PRIMARY KEY (series_id, bucket)
);

CREATE TABLE rollup_1h (
    series_id integer NOT NULL,
    bucket    timestamptz NOT NULL,
    good      bigint NOT NULL,
    uncertain bigint NOT NULL,
    bad       bigint NOT NULL,
    manual    bigint NOT NULL,
    begins    timestamptz NOT NULL,
    ends      timestamptz NOT NULL,
    min       double precision,
    max       double precision,
    sum       double precision,
    first_ts  timestamptz,
    first     double precision,
    last_ts   timestamptz,
    last      double precision,
    integral  double precision,
    covered   bigint,
    delta     double precision,
    resets    bigint,
    PRIMARY KEY (series_id, bucket)
);

-- One row per moment, node and channel, with the metrics side by side, for people who query by SQL. A bad reading has
-- no value and so isn't here; all other metrics are in readings and series.
CREATE VIEW sensor_readings AS
SELECT r.ts AS "timestamp", s.node AS node_id, s.channel,
    max(r.value) FILTER (WHERE s.metric = 'flow_rate') AS flow_rate,
    max(r.value) FILTER (WHERE s.metric = 'pressure') AS pressure,
    max(r.value) FILTER (WHERE s.metric = 'level') AS level,
    max(r.value) FILTER (WHERE s.metric = 'temperature') AS temperature,
    max(r.value) FILTER (WHERE s.metric = 'total_volume') AS total_volume,
    max(r.value) FILTER (WHERE s.metric = 'chlorine') AS chlorine,
    max(r.value) FILTER (WHERE s.metric = 'ph') AS ph,
    max(r.value) FILTER (WHERE s.metric = 'turbidity') AS turbidity,
    max(r.value) FILTER (WHERE s.metric = 'conductivity') AS conductivity
FROM readings r JOIN series s USING (series_id)
WHERE r.value IS NOT NULL
GROUP BY r.ts, s.node, s.channel;

-- What the usable readings of a bucket say: its rollup or, while that is dirty, the readings themselves.
CREATE VIEW usable_5min AS
SELECT r.series_id, r.bucket, r.good + r.uncertain + r.manual AS n, r.sum, r.min, r.max
FROM rollup_5m r
WHERE r.first_ts IS NOT NULL
  AND NOT EXISTS (SELECT FROM dirty_buckets d WHERE d.series_id = r.series_id AND d.bucket = r.bucket)
UNION ALL
SELECT d.series_id, d.bucket, count(*), sum(r.value), min(r.value), max(r.value)
FROM (SELECT DISTINCT series_id, bucket FROM dirty_buckets) d
JOIN readings r ON r.series_id = d.series_id AND r.ts >= d.bucket AND r.ts < d.bucket + INTERVAL '5 minutes'
WHERE r.value IS NOT NULL
GROUP BY 1, 2;

CREATE VIEW usable_hourly AS
SELECT r.series_id, r.bucket, r.good + r.uncertain + r.manual AS n, r.sum, r.min, r.max
FROM rollup_1h r
WHERE r.first_ts IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM dirty_buckets d
      WHERE d.series_id = r.series_id AND d.bucket >= r.bucket AND d.bucket < r.bucket + INTERVAL '1 hour'
  )
UNION ALL
SELECT d.series_id, d.bucket, sum(u.n)::bigint, sum(u.sum), min(u.min), max(u.max)
FROM (
    SELECT DISTINCT series_id, date_bin(INTERVAL '1 hour', bucket, '1970-01-01 00:00:00+00') AS bucket
    FROM dirty_buckets
) d
JOIN usable_5min u ON u.series_id = d.series_id AND u.bucket >= d.bucket AND u.bucket < d.bucket + INTERVAL '1 hour'
GROUP BY 1, 2;

-- The reference's aggregates. Averages are of the readings, not of time: the rollups know better. Buckets are UTC.
CREATE VIEW sensor_readings_5min AS
SELECT u.bucket, s.node AS node_id, s.channel,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'flow_rate') AS avg_flow_rate, max(u.min) FILTER (WHERE s.metric = 'flow_rate') AS min_flow_rate,
    max(u.max) FILTER (WHERE s.metric = 'flow_rate') AS max_flow_rate, coalesce(max(u.n) FILTER (WHERE s.metric = 'flow_rate'), 0) AS n_flow_rate,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'pressure') AS avg_pressure, max(u.min) FILTER (WHERE s.metric = 'pressure') AS min_pressure,
    max(u.max) FILTER (WHERE s.metric = 'pressure') AS max_pressure, coalesce(max(u.n) FILTER (WHERE s.metric = 'pressure'), 0) AS n_pressure,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'level') AS avg_level, max(u.min) FILTER (WHERE s.metric = 'level') AS min_level,
    max(u.max) FILTER (WHERE s.metric = 'level') AS max_level, coalesce(max(u.n) FILTER (WHERE s.metric = 'level'), 0) AS n_level,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'temperature') AS avg_temperature, max(u.min) FILTER (WHERE s.metric = 'temperature') AS min_temperature,
    max(u.max) FILTER (WHERE s.metric = 'temperature') AS max_temperature, coalesce(max(u.n) FILTER (WHERE s.metric = 'temperature'), 0) AS n_temperature,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'chlorine') AS avg_chlorine, max(u.min) FILTER (WHERE s.metric = 'chlorine') AS min_chlorine,
    max(u.max) FILTER (WHERE s.metric = 'chlorine') AS max_chlorine, coalesce(max(u.n) FILTER (WHERE s.metric = 'chlorine'), 0) AS n_chlorine
FROM usable_5min u JOIN series s USING (series_id)
GROUP BY 1, 2, 3;

CREATE VIEW sensor_readings_hourly AS
SELECT u.bucket, s.node AS node_id, s.channel,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'flow_rate') AS avg_flow_rate, max(u.min) FILTER (WHERE s.metric = 'flow_rate') AS min_flow_rate,
    max(u.max) FILTER (WHERE s.metric = 'flow_rate') AS max_flow_rate, coalesce(max(u.n) FILTER (WHERE s.metric = 'flow_rate'), 0) AS n_flow_rate,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'pressure') AS avg_pressure, max(u.min) FILTER (WHERE s.metric = 'pressure') AS min_pressure,
    max(u.max) FILTER (WHERE s.metric = 'pressure') AS max_pressure, coalesce(max(u.n) FILTER (WHERE s.metric = 'pressure'), 0) AS n_pressure,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'level') AS avg_level, max(u.min) FILTER (WHERE s.metric = 'level') AS min_level,
    max(u.max) FILTER (WHERE s.metric = 'level') AS max_level, coalesce(max(u.n) FILTER (WHERE s.metric = 'level'), 0) AS n_level,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'temperature') AS avg_temperature, max(u.min) FILTER (WHERE s.metric = 'temperature') AS min_temperature,
    max(u.max) FILTER (WHERE s.metric = 'temperature') AS max_temperature, coalesce(max(u.n) FILTER (WHERE s.metric = 'temperature'), 0) AS n_temperature,
    max(u.sum / u.n) FILTER (WHERE s.metric = 'chlorine') AS avg_chlorine, max(u.min) FILTER (WHERE s.metric = 'chlorine') AS min_chlorine,
    max(u.max) FILTER (WHERE s.metric = 'chlorine') AS max_chlorine, coalesce(max(u.n) FILTER (WHERE s.metric = 'chlorine'), 0) AS n_chlorine
FROM usable_hourly u JOIN series s USING (series_id)
GROUP BY 1, 2, 3;

CREATE VIEW sensor_readings_daily AS
SELECT date_bin(INTERVAL '1 day', bucket, '1970-01-01 00:00:00+00') AS bucket, node_id, channel,
    sum(avg_flow_rate * n_flow_rate) / nullif(sum(n_flow_rate), 0) AS avg_flow_rate, min(min_flow_rate) AS min_flow_rate,
    max(max_flow_rate) AS max_flow_rate, sum(n_flow_rate) AS n_flow_rate,
    sum(avg_pressure * n_pressure) / nullif(sum(n_pressure), 0) AS avg_pressure, min(min_pressure) AS min_pressure,
    max(max_pressure) AS max_pressure, sum(n_pressure) AS n_pressure,
    sum(avg_level * n_level) / nullif(sum(n_level), 0) AS avg_level, min(min_level) AS min_level,
    max(max_level) AS max_level, sum(n_level) AS n_level,
    sum(avg_temperature * n_temperature) / nullif(sum(n_temperature), 0) AS avg_temperature, min(min_temperature) AS min_temperature,
    max(max_temperature) AS max_temperature, sum(n_temperature) AS n_temperature,
    sum(avg_chlorine * n_chlorine) / nullif(sum(n_chlorine), 0) AS avg_chlorine, min(min_chlorine) AS min_chlorine,
    max(max_chlorine) AS max_chlorine, sum(n_chlorine) AS n_chlorine
FROM sensor_readings_hourly
GROUP BY 1, 2, 3;
