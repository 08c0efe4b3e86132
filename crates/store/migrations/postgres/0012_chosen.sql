-- As migrations/0012_chosen.sql.

ALTER TABLE nodes ADD COLUMN chosen TEXT; -- JSON
