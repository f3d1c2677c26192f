-- Who may come in. Times are UTC microseconds.

CREATE TABLE users (
    name     TEXT PRIMARY KEY NOT NULL,
    role     TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password TEXT NOT NULL, -- argon2id in PHC format
    changed  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    name TEXT PRIMARY KEY NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    hash TEXT NOT NULL UNIQUE, -- SHA-256 of the token
    made INTEGER NOT NULL,
    ends INTEGER
) STRICT, WITHOUT ROWID;
