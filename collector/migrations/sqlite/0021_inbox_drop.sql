-- Rows that a person has dropped: they are told no more, however often they are read again. 1: dropped.
ALTER TABLE inbox_rejects ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
