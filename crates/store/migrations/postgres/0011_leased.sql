-- As migrations/0011_leased.sql.

ALTER TABLE instances ADD COLUMN leased BOOLEAN NOT NULL DEFAULT false;
