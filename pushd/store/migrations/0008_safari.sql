-- Websites of an app whose visitors subscribe through push packages (Safari 15 and older).

CREATE TABLE safari_sites (
    app_id          int NOT NULL REFERENCES apps,
    website_push_id text COLLATE "C" NOT NULL,
    settings        text NOT NULL,
    -- Six PNGs, in the order of their names in a package as the daemon lists them.
    icons           bytea[] NOT NULL CHECK (cardinality(icons) = 6),
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (app_id, website_push_id)
);
-- PNGs are compressed already.
ALTER TABLE safari_sites ALTER COLUMN icons SET STORAGE EXTERNAL;

CREATE FUNCTION forget_safari_sites() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM safari_sites WHERE app_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_safari_sites AFTER UPDATE OF deleted_at ON apps
    FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION forget_safari_sites();
