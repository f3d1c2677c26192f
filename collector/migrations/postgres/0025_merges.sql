-- What the archive has of a day once a merge that was begun is in place; as cold_rows and cold_xor when none was. Without it
-- whatever is there is taken: so are days that an older version may have merged without noting it.
ALTER TABLE archive_days ADD COLUMN next_rows bigint;
ALTER TABLE archive_days ADD COLUMN next_xor bigint;
UPDATE archive_days SET next_rows = cold_rows, next_xor = cold_xor WHERE raw = 'here' OR exported = version;
