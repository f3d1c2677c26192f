-- What collectors agree on about the hot tier before this one. `id` tells these tables from others; `epoch` grows when the
-- hot tier lost something; it doesn't hold all readings before `owed`, microseconds since 1970, and wasn't told so yet.
CREATE TABLE hot_ledger (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    id    TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    owed  INTEGER
) STRICT;
INSERT INTO hot_ledger VALUES (1, lower(hex(randomblob(16))), 1, NULL);
