-- Accounts: users who log in, as the SDKs of some dialects have them do; and the sessions of apps and users.

CREATE TABLE accounts (
    user_id    int PRIMARY KEY,
    app_id     int NOT NULL,
    -- Either may be missing, not both; folded, so that case does not matter.
    login      text COLLATE "C",
    email      text COLLATE "C",
    -- scrypt: how it was made, salt, and what it came to.
    password   bytea NOT NULL,
    -- What the SDK's users have beside, JSON.
    fields     text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK (login IS NOT NULL OR email IS NOT NULL)
);
CREATE INDEX accounts_of_app ON accounts (app_id, user_id);
CREATE UNIQUE INDEX accounts_login ON accounts (app_id, login) WHERE login IS NOT NULL;
CREATE UNIQUE INDEX accounts_email ON accounts (app_id, email) WHERE email IS NOT NULL;

CREATE TABLE sessions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- SHA-256 of the token.
    digest     bytea NOT NULL UNIQUE,
    app_id     int NOT NULL,
    dialect    text NOT NULL,
    -- Null: nobody has logged in.
    user_id    int,
    created_at timestamptz NOT NULL,
    -- Moved on by use, a tenth of its life at a time.
    ends_at    timestamptz NOT NULL
);
CREATE INDEX sessions_ends ON sessions (ends_at);
CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;

-- Daemons remember sessions: whatever deletes some is told to all. Ids of two that live at once differ in their low 31 bits.
CREATE FUNCTION note_closed_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change(21::smallint, c.app_id, array_agg((c.id & 2147483647)::int)) FROM closed c GROUP BY c.app_id;
    RETURN NULL;
END $$;
CREATE TRIGGER note_closed_sessions AFTER DELETE ON sessions
    REFERENCING OLD TABLE AS closed FOR EACH STATEMENT EXECUTE FUNCTION note_closed_sessions();

-- Who is deleted can neither log in nor go on.
CREATE FUNCTION forget_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM accounts WHERE user_id = OLD.id;
    DELETE FROM sessions WHERE user_id = OLD.id;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_account AFTER UPDATE OF deleted_at ON users
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION forget_account();
CREATE TRIGGER forget_account_of_gone AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION forget_account();
