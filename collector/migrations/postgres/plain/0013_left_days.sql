-- The views over rollups and dirty buckets, where days have left: of such a day only what came late is in readings, so its
-- buckets are those of the rollups, which show that after the next `daily_sync`.

CREATE VIEW dirty_here AS
SELECT series_id, bucket FROM dirty_buckets d
WHERE NOT EXISTS (
    SELECT FROM archive_days a
    WHERE a.raw <> 'here' AND a.day = (d.bucket AT TIME ZONE 'UTC')::date - DATE '1970-01-01'
);

CREATE OR REPLACE VIEW usable_5min AS
SELECT r.series_id, r.bucket, r.good + r.uncertain + r.manual AS n, r.sum, r.min, r.max
FROM rollup_5m r
WHERE r.first_ts IS NOT NULL
  AND NOT EXISTS (SELECT FROM dirty_here d WHERE d.series_id = r.series_id AND d.bucket = r.bucket)
UNION ALL
SELECT d.series_id, d.bucket, count(*), sum(r.value), min(r.value), max(r.value)
FROM (SELECT DISTINCT series_id, bucket FROM dirty_here) d
JOIN readings r ON r.series_id = d.series_id AND r.ts >= d.bucket AND r.ts < d.bucket + INTERVAL '5 minutes'
WHERE r.value IS NOT NULL
GROUP BY 1, 2;

CREATE OR REPLACE VIEW usable_hourly AS
SELECT r.series_id, r.bucket, r.good + r.uncertain + r.manual AS n, r.sum, r.min, r.max
FROM rollup_1h r
WHERE r.first_ts IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM dirty_here d
      WHERE d.series_id = r.series_id AND d.bucket >= r.bucket AND d.bucket < r.bucket + INTERVAL '1 hour'
  )
UNION ALL
SELECT d.series_id, d.bucket, sum(u.n)::bigint, sum(u.sum), min(u.min), max(u.max)
FROM (
    SELECT DISTINCT series_id, date_bin(INTERVAL '1 hour', bucket, '1970-01-01 00:00:00+00') AS bucket
    FROM dirty_here
) d
JOIN usable_5min u ON u.series_id = d.series_id AND u.bucket >= d.bucket AND u.bucket < d.bucket + INTERVAL '1 hour'
GROUP BY 1, 2;
