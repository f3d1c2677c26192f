-- Who may come in. Times are UTC microseconds.

CREATE TABLE users (
    name     text PRIMARY KEY,
    role     text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password text NOT NULL, -- argon2id in PHC format
    changed  bigint NOT NULL
);

CREATE TABLE tokens (
    name text PRIMARY KEY,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    hash text NOT NULL UNIQUE, -- SHA-256 of the token
    made bigint NOT NULL,
    ends bigint
);
