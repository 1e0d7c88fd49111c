-- What format 3 adds to format 2; a new file gets all of them.

-- Documents have versions. Those of format 2 begin with version 1.
ALTER TABLE documents ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
-- The compare-and-set that wrote the document, if one did.
ALTER TABLE documents ADD COLUMN write_id BLOB;

-- The newest version of any document.
CREATE TABLE document_sequence (last INTEGER NOT NULL);
INSERT INTO document_sequence VALUES (1);
