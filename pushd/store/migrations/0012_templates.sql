-- Templates of messages and in-app contents: each with the number of its newest version, and all versions beside them.

CREATE TABLE templates (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id     int NOT NULL REFERENCES apps,
    uid        text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    version    int NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (app_id, uid),
    CONSTRAINT templates_name UNIQUE (app_id, name)
);
CREATE INDEX templates_app ON templates (app_id, id);

CREATE TABLE template_versions (
    template_id int NOT NULL REFERENCES templates ON DELETE CASCADE,
    version     int NOT NULL,
    -- As it was asked for, JSON.
    body        text NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (template_id, version)
);

CREATE FUNCTION forget_templates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM templates WHERE app_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_templates AFTER UPDATE OF deleted_at ON apps
    FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION forget_templates();
