-- Rows that are written on the primary and must come to a read replica before it is believed; old ones go.
CREATE TABLE replica_proofs (
    token   text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    written timestamptz NOT NULL DEFAULT now()
);
