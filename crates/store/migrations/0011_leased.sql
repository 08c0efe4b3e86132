-- Whether every container of the place ends when no server has answered for its node for as long as a lease, so that the
-- instance may be placed elsewhere then. Nothing that was placed before this does.
ALTER TABLE instances ADD COLUMN leased INTEGER NOT NULL DEFAULT 0;
