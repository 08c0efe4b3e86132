-- As migrations/0002_rollout.sql; there are no older revisions to look after.
ALTER TABLE agents ADD COLUMN rollout TEXT;

ALTER TABLE revisions ADD COLUMN template BIGINT NOT NULL DEFAULT 0;
ALTER TABLE revisions ADD COLUMN cause TEXT NOT NULL DEFAULT 'deploy';
ALTER TABLE revisions ADD COLUMN image_id TEXT;
ALTER TABLE revisions ADD COLUMN image_digest TEXT;
ALTER TABLE revisions ADD COLUMN outcome TEXT CHECK (outcome IN ('complete', 'failed'));
