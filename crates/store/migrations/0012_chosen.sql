-- What was chosen for a node when it was joined, in place of what its machine says: kept when it joins again.
ALTER TABLE nodes ADD COLUMN chosen TEXT; -- JSON
