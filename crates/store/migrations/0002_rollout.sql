-- How far the present revision has come; NULL for one from before there were rollouts.
ALTER TABLE agents ADD COLUMN rollout TEXT; -- JSON

-- The revision at which containers were last to be made anew: those of all revisions with the same one serve each other.
ALTER TABLE revisions ADD COLUMN template INTEGER NOT NULL DEFAULT 0;
-- Where it came from, for people: deploy, upgrade, undo, rollback.
ALTER TABLE revisions ADD COLUMN cause TEXT NOT NULL DEFAULT 'deploy';
-- The image that its instances run, once that is known.
ALTER TABLE revisions ADD COLUMN image_id TEXT;
ALTER TABLE revisions ADD COLUMN image_digest TEXT;
-- What became of it: NULL until it is complete or failed.
ALTER TABLE revisions ADD COLUMN outcome TEXT CHECK (outcome IN ('complete', 'failed'));

UPDATE revisions SET template = revision;
-- What runs is what is gone back to when the next revision fails.
UPDATE revisions SET outcome = 'complete'
    WHERE EXISTS (SELECT 1 FROM agents
                  WHERE agents.fleet = revisions.fleet AND agents.name = revisions.agent
                    AND agents.revision = revisions.revision);
