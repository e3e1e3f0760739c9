-- Keys of the dialects: an identity belongs to one app, and may have several secrets (a server's, one of each client's).

CREATE TABLE vendor_keys (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id     int NOT NULL REFERENCES apps,
    dialect    text NOT NULL,
    role       text NOT NULL,
    identity   text COLLATE "C" NOT NULL,
    -- SHA-256 of the secret.
    digest     bytea NOT NULL,
    -- The secret itself, encrypted by the vault, where requests are signed with it instead of carrying it.
    sealed     bytea,
    name       text NOT NULL,
    hint       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE UNIQUE INDEX vendor_keys_known ON vendor_keys (dialect, identity, digest) WHERE revoked_at IS NULL;
CREATE INDEX vendor_keys_app ON vendor_keys (app_id, id);

-- A new key; nothing where its identity is another app's, or where it is there already. PD404 where there is no such app.
CREATE FUNCTION create_vendor_key(
    p_app int, p_dialect text, p_role text, p_identity text, p_digest bytea, p_sealed bytea, p_name text, p_hint text
) RETURNS SETOF vendor_keys LANGUAGE plpgsql AS $$
BEGIN
    -- Whoever deletes the app waits for us, or we see that it is gone: it takes its keys along.
    PERFORM lock_apps(ARRAY[p_app]);
    -- Class 7010: whoever makes keys of one dialect takes turns, so that an identity has one app.
    PERFORM pg_advisory_xact_lock(7010, hashtext(p_dialect));
    IF EXISTS (SELECT FROM vendor_keys k WHERE k.dialect = p_dialect AND k.identity = p_identity AND k.revoked_at IS NULL
            AND (k.app_id <> p_app OR k.digest = p_digest)) THEN
        RETURN;
    END IF;
    PERFORM note_change(3::smallint, p_app, '{}');
    RETURN QUERY INSERT INTO vendor_keys (app_id, dialect, role, identity, digest, sealed, name, hint)
        VALUES (p_app, p_dialect, p_role, p_identity, p_digest, p_sealed, p_name, p_hint) RETURNING *;
END $$;

-- An app that is deleted takes its keys along at once.
CREATE FUNCTION revoke_vendor_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vendor_keys SET revoked_at = now() WHERE app_id = NEW.id AND revoked_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER revoke_vendor_keys AFTER UPDATE OF deleted_at ON apps
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION revoke_vendor_keys();
