-- Broadcast channels of Live Activities that were made or taken over here: what their devices do not say.

CREATE TABLE live_activity_channels (
    -- Of the device that stands for the channel in audiences; it may be deleted before the channel is.
    device_id   int PRIMARY KEY,
    app_id      int NOT NULL REFERENCES apps,
    channel_id  text COLLATE "C" NOT NULL,
    environment smallint NOT NULL,
    bundle      text COLLATE "C" NOT NULL,
    stores      boolean NOT NULL,
    -- The Idempotency-Key that it was made with, and SHA-256 of that request: known for as long as the channel is.
    key         text,
    body_hash   bytea,
    created_at  timestamptz NOT NULL
);
CREATE UNIQUE INDEX live_activity_channels_key ON live_activity_channels (app_id, key) WHERE key IS NOT NULL;
CREATE INDEX live_activity_channels_app ON live_activity_channels (app_id, device_id);

CREATE FUNCTION forget_live_activity_channels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM live_activity_channels WHERE app_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_live_activity_channels AFTER UPDATE OF deleted_at ON apps
    FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION forget_live_activity_channels();
