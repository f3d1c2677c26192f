-- What collectors agree on about the hot tier before this one. `id` tells these tables from others; `epoch` grows when the
-- hot tier lost something; it doesn't hold all readings before `owed`, microseconds since 1970, and wasn't told so yet.
CREATE TABLE hot_ledger (
    one   integer PRIMARY KEY CHECK (one = 1),
    id    text NOT NULL,
    epoch bigint NOT NULL,
    owed  bigint
);
INSERT INTO hot_ledger VALUES (1, gen_random_uuid()::text, 1, NULL);
