-- Pictures as browsers are shown them, by what is in them: any node serves what one has fitted.

CREATE TABLE pictures (
    app_id  int NOT NULL REFERENCES apps,
    name    text COLLATE "C" NOT NULL,
    body    bytea NOT NULL,
    -- When a push last wanted it.
    used_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, name)
);
-- PNGs and JPEGs are compressed already.
ALTER TABLE pictures ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX pictures_used ON pictures (used_at);
