-- Reports: comparison by push tag; retention by kind of row; erasure of users.

-- The push tag of a send; null where it has none.
CREATE FUNCTION push_tag_of(p_send text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT p_send::json ->> 'push_tag'
$$;
-- Of those that may have one: for all others a look at the text is all it costs.
CREATE INDEX notifications_push_tag ON notifications (app_id, push_tag_of(send), id) WHERE strpos(send, '"push_tag":') > 0;

-- Installs, or users, above a number that opened a notification, ascending, and when first: by the index alone, from its first
-- to its last row that is needed.
CREATE FUNCTION install_opens(p_id bigint, p_created timestamptz, p_after int, p_limit int)
RETURNS TABLE (id int, at timestamptz) LANGUAGE sql STABLE
SET enable_hashagg = off SET enable_sort = off SET enable_bitmapscan = off SET enable_seqscan = off AS $$
    SELECT r.install, min(r.at) FROM receipts r
    WHERE r.notification_id = p_id AND r.created_at = p_created AND r.install > p_after AND r.event IN (3, 4)
    GROUP BY r.install ORDER BY r.install LIMIT p_limit
$$;
CREATE FUNCTION user_opens(p_id bigint, p_created timestamptz, p_after int, p_limit int)
RETURNS TABLE (id int, at timestamptz) LANGUAGE sql STABLE
SET enable_hashagg = off SET enable_sort = off SET enable_bitmapscan = off SET enable_seqscan = off AS $$
    SELECT r.user_id, min(r.at) FROM receipts r
    WHERE r.notification_id = p_id AND r.created_at = p_created AND r.user_id > p_after AND r.user_id IS NOT NULL
        AND r.event IN (3, 4)
    GROUP BY r.user_id ORDER BY r.user_id LIMIT p_limit
$$;

-- Drops the partitions of these tables that end before a time, and what fell into their default partitions before it.
CREATE FUNCTION drop_partitions_of(p_tables text[], p_before timestamptz) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    old record;
    dropped int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(7003, 0);
    FOR old IN
        SELECT c.relname AS name FROM pg_partitioned_table p JOIN pg_class parent ON parent.oid = p.partrelid
        JOIN pg_inherits i ON i.inhparent = p.partrelid JOIN pg_class c ON c.oid = i.inhrelid
        WHERE c.relnamespace = current_schema()::regnamespace AND parent.relname = ANY (p_tables)
            AND c.relname ~ '_\d{4}_\d{2}$'
            AND (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' <= p_before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', old.name);
        dropped := dropped + 1;
    END LOOP;
    FOR old IN
        SELECT c.relname AS name, a.attname AS key FROM pg_partitioned_table p
        JOIN pg_class c ON c.oid = p.partrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY (p_tables)
            AND to_regclass(c.relname || '_default') IS NOT NULL
    LOOP
        EXECUTE format('DELETE FROM %I WHERE %I < %L', old.name || '_default', old.key, p_before);
    END LOOP;
    RETURN dropped;
END $$;

-- Users who are to be forgotten everywhere. They are gone at once; what else tells of them is looked for in the
-- background, by what is kept here until that is done. The numbers stand for nobody then.
CREATE TABLE erasures (
    id           int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id       int NOT NULL,
    user_id      int NOT NULL,
    installs     int[] NOT NULL,
    devices      int[] NOT NULL,
    -- External id, e-mail address, names and aliases of installs, tokens; null when all is done.
    texts        text[],
    requested_at timestamptz NOT NULL,
    finished_at  timestamptz
);
CREATE INDEX erasures_app ON erasures (app_id, id);
CREATE INDEX erasures_open ON erasures (id) WHERE finished_at IS NULL;

-- Forgets a user, his installs and their devices; what is left to be looked for is noted. Nothing where there is no such
-- user. The tombstones name nobody.
CREATE FUNCTION erase_user(
    p_now timestamptz, p_app int, p_external text, OUT erasure int, OUT names text[],
    OUT images user_columns, OUT devices device_columns
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    v_user int;
    v_email text;
    v_installs int[];
    v_devices int[];
    v_texts text[];
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    SELECT u.id, u.email INTO v_user, v_email FROM users u
        WHERE u.app_id = p_app AND u.external_id = p_external AND u.deleted_at IS NULL FOR UPDATE;
    IF v_user IS NULL THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(i.id), '{}'), coalesce(array_agg(i.name), '{}'), coalesce(array_agg(i.name), '{}')
            || coalesce(array_agg(i.alias) FILTER (WHERE i.alias IS NOT NULL), '{}')
        INTO v_installs, names, v_texts FROM installs i WHERE i.user_id = v_user;
    SELECT coalesce(array_agg(d.id), '{}'),
            v_texts || coalesce(array_agg(convert_from(d.token, 'UTF8')) FILTER (WHERE d.token IS NOT NULL), '{}')
        INTO v_devices, v_texts
        FROM unnest(v_installs) AS n (id) JOIN devices d ON d.install = n.id AND d.deleted_at IS NULL;
    SELECT array_agg(DISTINCT t) INTO v_texts FROM (
        SELECT unnest(v_texts || p_external || v_email)
        UNION ALL SELECT unnest(ARRAY[a.login, a.email]) FROM accounts a WHERE a.user_id = v_user) n (t) WHERE t <> '';
    UPDATE users u SET deleted_at = p_now, revision = u.revision + 1, external_id = '', email = NULL, attributes = NULL,
        tags = NULL, channels = NULL, quiet = NULL WHERE u.id = v_user;
    devices := delete_devices(p_now, p_app, v_devices);
    DELETE FROM installs i USING unnest(v_installs) AS n (id) WHERE i.id = n.id;
    PERFORM forget_recipients(ARRAY(SELECT v_user UNION ALL SELECT -n FROM unnest(v_installs) n));
    INSERT INTO erasures (app_id, user_id, installs, devices, texts, requested_at)
        VALUES (p_app, v_user, v_installs, v_devices, v_texts, p_now) RETURNING id INTO erasure;
    images := changed_users(ARRAY[v_user]);
    PERFORM note_event(p_app, 17, p_now, p_ids => ARRAY[v_user]);
END $$;
