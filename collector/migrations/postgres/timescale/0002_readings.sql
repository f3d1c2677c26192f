-- readings and rollups as hypertables of TimescaleDB 2.17 or newer, and the views of the reference as continuous
-- aggregates.

-- Narrow: one row per reading. Who wins a (series_id, ts) is decided in commit.rs. The order of the columns leaves no
-- holes between them.
CREATE TABLE readings (
    series_id integer NOT NULL,
    quality   smallint NOT NULL,
    ts        timestamptz NOT NULL,
    value     double precision,
    revision  bigint NOT NULL,
    PRIMARY KEY (series_id, ts)
);
SELECT create_hypertable('readings', by_range('ts', INTERVAL '1 day'), create_default_indexes => false);
ALTER TABLE readings SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'ts'
);
SELECT add_compression_policy('readings', INTERVAL '7 days');

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
SELECT create_hypertable('rollup_5m', by_range('bucket', INTERVAL '7 days'), create_default_indexes => false);
ALTER TABLE rollup_5m SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'bucket'
);
SELECT add_compression_policy('rollup_5m', INTERVAL '14 days');

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
SELECT create_hypertable('rollup_1h', by_range('bucket', INTERVAL '30 days'), create_default_indexes => false);
ALTER TABLE rollup_1h SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'bucket'
);
SELECT add_compression_policy('rollup_1h', INTERVAL '60 days');

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

-- The reference's aggregates. Averages are of the readings, not of time: the collector's own rollups know better, and
-- late readings show here only after the next refresh. They are real-time: what isn't materialised yet is summed up
-- when it is asked for. Buckets are UTC.
CREATE MATERIALIZED VIEW sensor_readings_5min
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '5 minutes', r.ts) AS bucket, s.node AS node_id, s.channel,
    avg(r.value) FILTER (WHERE s.metric = 'flow_rate') AS avg_flow_rate, min(r.value) FILTER (WHERE s.metric = 'flow_rate') AS min_flow_rate,
    max(r.value) FILTER (WHERE s.metric = 'flow_rate') AS max_flow_rate, count(r.value) FILTER (WHERE s.metric = 'flow_rate') AS n_flow_rate,
    avg(r.value) FILTER (WHERE s.metric = 'pressure') AS avg_pressure, min(r.value) FILTER (WHERE s.metric = 'pressure') AS min_pressure,
    max(r.value) FILTER (WHERE s.metric = 'pressure') AS max_pressure, count(r.value) FILTER (WHERE s.metric = 'pressure') AS n_pressure,
    avg(r.value) FILTER (WHERE s.metric = 'level') AS avg_level, min(r.value) FILTER (WHERE s.metric = 'level') AS min_level,
    max(r.value) FILTER (WHERE s.metric = 'level') AS max_level, count(r.value) FILTER (WHERE s.metric = 'level') AS n_level,
    avg(r.value) FILTER (WHERE s.metric = 'temperature') AS avg_temperature, min(r.value) FILTER (WHERE s.metric = 'temperature') AS min_temperature,
    max(r.value) FILTER (WHERE s.metric = 'temperature') AS max_temperature, count(r.value) FILTER (WHERE s.metric = 'temperature') AS n_temperature,
    avg(r.value) FILTER (WHERE s.metric = 'chlorine') AS avg_chlorine, min(r.value) FILTER (WHERE s.metric = 'chlorine') AS min_chlorine,
    max(r.value) FILTER (WHERE s.metric = 'chlorine') AS max_chlorine, count(r.value) FILTER (WHERE s.metric = 'chlorine') AS n_chlorine
FROM readings r JOIN series s ON s.series_id = r.series_id
WHERE r.value IS NOT NULL
GROUP BY 1, 2, 3
WITH NO DATA;

CREATE MATERIALIZED VIEW sensor_readings_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', bucket) AS bucket, node_id, channel,
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
FROM sensor_readings_5min
GROUP BY 1, 2, 3
WITH NO DATA;

CREATE MATERIALIZED VIEW sensor_readings_daily
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, node_id, channel,
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
GROUP BY 1, 2, 3
WITH NO DATA;

-- They look back less far than readings are kept (90 days): refreshed over dropped chunks, an aggregate would forget.
SELECT add_continuous_aggregate_policy('sensor_readings_5min',
    start_offset => INTERVAL '80 days', end_offset => INTERVAL '10 minutes', schedule_interval => INTERVAL '5 minutes');
SELECT add_continuous_aggregate_policy('sensor_readings_hourly',
    start_offset => INTERVAL '80 days', end_offset => INTERVAL '2 hours', schedule_interval => INTERVAL '30 minutes');
SELECT add_continuous_aggregate_policy('sensor_readings_daily',
    start_offset => INTERVAL '80 days', end_offset => INTERVAL '2 days', schedule_interval => INTERVAL '6 hours');
