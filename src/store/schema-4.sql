-- What a layer is filled from, may hold, and whose owners it has.

-- While it is filled: the layer whose directory becomes its own.
ALTER TABLE layers ADD COLUMN was INTEGER;
-- The most bytes that may be written to it.
ALTER TABLE layers ADD COLUMN max_size INTEGER;
-- The user and group mapping that the owners in it are written with, as JSON; none for the container's own ids.
ALTER TABLE layers ADD COLUMN mapping TEXT;
-- Of one that was sealed as it lay: the moment that nothing in it changed behind.
ALTER TABLE layers ADD COLUMN still INTEGER;
-- How many layers were made one in it.
ALTER TABLE layers ADD COLUMN merged INTEGER NOT NULL DEFAULT 1;
-- Where several were: what the topmost took alone.
ALTER TABLE layers ADD COLUMN own_size INTEGER;
ALTER TABLE layers ADD COLUMN own_inodes INTEGER;
-- And the layers that it has the place of: a JSON array.
ALTER TABLE layers ADD COLUMN instead_of TEXT;
