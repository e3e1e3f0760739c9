-- Events of dialects: what their callers asked for, in the caller's own words, beside the notification that it became.

CREATE SEQUENCE dialect_event_ids AS int;

CREATE TABLE dialect_events (
    -- From dialect_event_ids, known before the notification is made: devices are told it.
    id              int PRIMARY KEY,
    app_id          int NOT NULL,
    dialect         text NOT NULL,
    -- Who asked; 0: a server, on nobody's behalf.
    user_id         int NOT NULL,
    -- The one user that it names, `id:` or `external:` and how; null: it names several, or tags.
    target          text,
    -- Of the notification, and of the schedule that it is before its time, and stays where it recurs.
    notification_id bigint NOT NULL,
    -- What was asked for, as it is told again: JSON.
    told            text NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);
CREATE INDEX dialect_events_user ON dialect_events (app_id, user_id, dialect, id);
CREATE INDEX dialect_events_target ON dialect_events (app_id, target) WHERE target IS NOT NULL;
CREATE INDEX dialect_events_created ON dialect_events USING brin (created_at);

-- With a user goes what he asked for, and what was said to him alone.
CREATE FUNCTION forget_dialect_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dialect_events WHERE app_id = OLD.app_id AND user_id = OLD.id;
    DELETE FROM dialect_events
        WHERE app_id = OLD.app_id AND target IN ('id:' || OLD.id, 'external:' || OLD.external_id);
    RETURN NULL;
END $$;
CREATE TRIGGER forget_dialect_events AFTER UPDATE OF deleted_at ON users
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION forget_dialect_events();

-- The key that a session was opened with, of which it has its role: it ends with it.
ALTER TABLE sessions ADD COLUMN key_id int;
