-- Who was counted for frequency caps, and at which hours users open.

-- A row is who got one more of a category by one release, written by the transaction that releases. It ages out as
-- notifications do.
CREATE TABLE tallies (
    -- Random: by which it is known again.
    id       bigint NOT NULL,
    app_id   int NOT NULL,
    category text COLLATE "C" NOT NULL,
    -- Readers take rows by transaction, as those of the change feed do.
    xid      xid8 NOT NULL DEFAULT pg_current_xact_id(),
    node_id  bigint NOT NULL,
    -- Of a notification that goes out in more than one release; null: it has but this one.
    notification_id bigint,
    -- A bitmap of users; installs that belong to none stand above 2^31, by a device of theirs.
    persons  bytea NOT NULL,
    at       timestamptz NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX tallies_category ON tallies (app_id, category, xid);
CREATE INDEX tallies_notification ON tallies (notification_id) WHERE notification_id IS NOT NULL;
ALTER TABLE tallies ALTER COLUMN persons SET STORAGE EXTERNAL;

SELECT make_partitions(now(), 2);

-- Opens by users until they are folded: of each the user, the profile of the install, and seconds since the epoch, as int4.
CREATE TABLE open_deltas (
    app_id int NOT NULL,
    opens  bytea NOT NULL,
    at     timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX open_deltas_app ON open_deltas (app_id);

-- Of users who opened anything: 24 numbers of four bytes (IEEE 754, the least significant byte first), one for each hour
-- of the day, as they counted at a second since the epoch.
CREATE TABLE habits (
    user_id int PRIMARY KEY,
    touched int NOT NULL,
    weights bytea NOT NULL
) WITH (fillfactor = 80);

-- Gone with their users, whatever was under way when these were deleted.
CREATE FUNCTION forget_habits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM habits h USING gone g WHERE h.user_id = g.id;
    RETURN NULL;
END $$;
CREATE TRIGGER users_gone AFTER DELETE ON users REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_habits();

-- The same of all users of an app together.
CREATE TABLE crowds (
    app_id  int PRIMARY KEY,
    touched int NOT NULL,
    weights bytea NOT NULL
);

-- Writes habits, p_weights one behind the other, of users that are there.
CREATE FUNCTION put_habits(p_users int[], p_touched int[], p_weights bytea) RETURNS void LANGUAGE sql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
    INSERT INTO habits (user_id, touched, weights)
        SELECT n.id, n.touched, substring(p_weights FROM (n.row::int - 1) * 96 + 1 FOR 96)
        FROM unnest(p_users, p_touched) WITH ORDINALITY AS n (id, touched, row)
        JOIN users u ON u.id = n.id AND u.deleted_at IS NULL
    ON CONFLICT (user_id) DO UPDATE SET touched = excluded.touched, weights = excluded.weights
$$;
