-- Notifications, their targets and what became of them. Everything that ages out is partitioned by month.
--
-- What is accepted is written once and never rewritten: `runs` says what is not finished and who works on it, `finished`
-- that it is. Up to 64 targets outcomes are rows; more: bitmaps in parts of 2^20 ids, appended as deltas and compacted.
--
-- A release is some of a notification's devices from one instant on. Release 0 is the whole of a send that goes out at
-- once; those of a rollout count from 1, and are bitmaps however few. A run is a release that goes out; where runs are
-- named by one number it is the notification's id + 2^32 * release: the id itself for nearly all.

CREATE SEQUENCE notification_ids AS bigint MAXVALUE 2147483647;

CREATE TABLE notifications (
    id          bigint NOT NULL,
    app_id      int NOT NULL,
    created_at  timestamptz NOT NULL,
    released_at timestamptz NOT NULL,
    expires_at  timestamptz,
    name        text,
    -- The send as it was asked for, JSON.
    send        text NOT NULL,
    targeted    int NOT NULL,
    -- Device ids of a small send; null: bitmaps in `targets`.
    devices     int[],
    -- Of which it is an occurrence.
    schedule_id bigint,
    PRIMARY KEY (app_id, id, created_at)
) PARTITION BY RANGE (created_at);

CREATE TABLE targets (
    notification_id bigint NOT NULL,
    release         int NOT NULL DEFAULT 0,
    part            int NOT NULL,
    count           int NOT NULL,
    devices         bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (notification_id, release, part, created_at)
) PARTITION BY RANGE (created_at);

CREATE TABLE runs (
    notification_id bigint NOT NULL,
    release         int NOT NULL DEFAULT 0,
    app_id          int NOT NULL,
    node_id         bigint NOT NULL,
    created_at      timestamptz NOT NULL,
    at_most_once    boolean NOT NULL,
    cancelled_at    timestamptz,
    paused_at       timestamptz,
    -- Taken over from a node that is dead.
    claimed         boolean NOT NULL DEFAULT false,
    PRIMARY KEY (notification_id, release)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX runs_claimed ON runs (node_id) WHERE claimed;
CREATE INDEX runs_app ON runs (app_id, notification_id) WHERE cancelled_at IS NOT NULL;

CREATE TABLE finished (
    notification_id bigint NOT NULL,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz NOT NULL,
    cancelled       boolean NOT NULL,
    PRIMARY KEY (notification_id, created_at)
) PARTITION BY RANGE (created_at);

-- One row per device of a small send. The only index serves a device's history and, through the send's own list of
-- devices, its outcomes. `at` is when it was settled.
CREATE TABLE outcomes (
    device_id       int NOT NULL,
    notification_id bigint NOT NULL,
    gateway         smallint NOT NULL,
    code            smallint NOT NULL,
    at              timestamptz NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX outcomes_device ON outcomes (device_id, notification_id);

-- What settlements append for large sends, until they are finished.
CREATE TABLE outcome_deltas (
    notification_id bigint NOT NULL,
    release         int NOT NULL DEFAULT 0,
    app_id          int NOT NULL,
    part            int NOT NULL,
    gateway         smallint NOT NULL,
    code            smallint NOT NULL,
    count           int NOT NULL,
    devices         bytea NOT NULL,
    at              timestamptz NOT NULL
);
CREATE INDEX outcome_deltas_part ON outcome_deltas (notification_id, part);
ALTER TABLE outcome_deltas ALTER COLUMN devices SET STORAGE EXTERNAL;

-- The compacted form: one row per part, gateway and code.
CREATE TABLE outcome_parts (
    notification_id bigint NOT NULL,
    app_id          int NOT NULL,
    part            int NOT NULL,
    gateway         smallint NOT NULL,
    code            smallint NOT NULL,
    count           int NOT NULL,
    devices         bytea NOT NULL,
    at              timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (notification_id, part, gateway, code, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX outcome_parts_app ON outcome_parts (app_id, part, notification_id);

-- At most once: what was about to be written, committed before it was. Gone with the end of the notification.
CREATE TABLE attempts (
    notification_id bigint NOT NULL,
    release         int NOT NULL DEFAULT 0,
    devices         bytea NOT NULL
);
CREATE INDEX attempts_notification ON attempts (notification_id);

-- Makes the partitions of this month and so many more, and takes what fell into a default partition home.
CREATE FUNCTION make_partitions(p_now timestamptz, p_ahead int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    parent record;
    month timestamp;
    low text;
    high text;
    name text;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(7003, 0);
    FOR parent IN
        SELECT c.relname AS name, a.attname AS key FROM pg_partitioned_table p
        JOIN pg_class c ON c.oid = p.partrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
        WHERE c.relnamespace = current_schema()::regnamespace ORDER BY c.relname
    LOOP
        IF to_regclass(parent.name || '_default') IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', parent.name || '_default', parent.name);
        END IF;
        FOR ahead IN 0 .. p_ahead LOOP
            month := date_trunc('month', p_now AT TIME ZONE 'UTC') + make_interval(months => ahead);
            name := parent.name || to_char(month, '_YYYY_MM');
            CONTINUE WHEN to_regclass(name) IS NOT NULL;
            low := to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00';
            high := to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00';
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING STORAGE)', name, parent.name);
            EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %2$I < %4$L RETURNING *)
                INSERT INTO %5$I SELECT * FROM moved', parent.name || '_default', parent.key, low, high, name);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent.name, name, low, high);
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- Drops the partitions that end before a time.
CREATE FUNCTION drop_partitions(p_before timestamptz) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    old record;
    dropped int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(7003, 0);
    FOR old IN
        SELECT c.relname AS name FROM pg_partitioned_table p
        JOIN pg_inherits i ON i.inhparent = p.partrelid JOIN pg_class c ON c.oid = i.inhrelid
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relname ~ '_\d{4}_\d{2}$'
            AND (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' <= p_before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', old.name);
        dropped := dropped + 1;
    END LOOP;
    -- What never finished goes with the notification that it was of.
    DELETE FROM runs r WHERE r.created_at < p_before AND NOT EXISTS (
        SELECT FROM notifications n WHERE n.app_id = r.app_id AND n.id = r.notification_id AND n.created_at = r.created_at);
    RETURN dropped;
END $$;

SELECT make_partitions(now(), 2);

-- Accepts notifications; each comes with its own id. n_low and n_high cut its devices out of p_devices (n_low 0: none, they
-- are bitmaps in t_*). Where n_due is not null it is kept as a schedule. Times are seconds since the epoch. k_*: idempotency
-- keys, k_row the row of n_* (each key once). A key that is known keeps its notification from being written: it gives what
-- that stands for. e_*: what is an event of a dialect, too, e_row the row of n_*.
CREATE FUNCTION accept_notifications(
    p_node bigint, p_epoch int, p_keep interval,
    n_id bigint[], n_app int[], n_created float8[], n_released float8[], n_expires float8[], n_name text[],
    n_send text[], n_targeted int[], n_once boolean[], n_low int[], n_high int[], p_devices int[],
    n_due float8[], n_nominal float8[], n_recurring boolean[],
    t_row int[], t_part int[], t_count int[], t_devices bytea[],
    k_row int[], k_key text[], k_hash bytea[], k_answer bytea[],
    e_row int[], e_id int[], e_dialect text[], e_user int[], e_target text[], e_told text[], e_created float8[]
) RETURNS TABLE (n int, body_hash bytea, notification_id bigint, answer bytea) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    known int[] := '{}';
    repeated record;
BEGIN
    -- Held to the end: whoever fences this node, or makes sure that nothing is under way, waits for us.
    PERFORM 1 FROM nodes WHERE id = p_node AND fenced_at IS NULL AND epoch = p_epoch FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node % may not accept', p_node USING ERRCODE = 'PD503';
    END IF;
    IF EXISTS (SELECT FROM (SELECT DISTINCT a FROM unnest(n_app) a) n
               LEFT JOIN apps ON apps.id = n.a AND apps.deleted_at IS NULL WHERE apps.id IS NULL) THEN
        RAISE EXCEPTION 'there is no such app' USING ERRCODE = 'PD404';
    END IF;
    IF cardinality(k_row) > 0 THEN
        WITH put AS (
            INSERT INTO idempotency AS i (app_id, key, body_hash, notification_id, answer, created_at)
            SELECT n_app[k.row], k.key, k.hash, n_id[k.row], k.answer, to_timestamp(n_created[k.row])
            FROM unnest(k_row, k_key, k_hash, k_answer) AS k (row, key, hash, answer)
            ORDER BY 1, 2
            ON CONFLICT (app_id, key) DO UPDATE SET body_hash = excluded.body_hash, answer = excluded.answer,
                notification_id = excluded.notification_id, created_at = excluded.created_at, promised = false
                WHERE i.created_at < excluded.created_at - p_keep
            RETURNING i.notification_id
        )
        SELECT coalesce(array_agg(k.row), '{}') INTO known FROM unnest(k_row) AS k (row)
            WHERE n_id[k.row] NOT IN (SELECT put.notification_id FROM put);
        IF cardinality(known) > 0 THEN
            -- One by one, by the key: a join might hold all that is kept against all that is known.
            FOR repeated IN SELECT k.row, k.key, k.hash FROM unnest(k_row, k_key, k_hash) AS k (row, key, hash)
                    WHERE k.row = ANY (known) ORDER BY n_app[k.row], k.key LOOP
                RETURN QUERY UPDATE idempotency i SET promised = i.promised OR i.body_hash = repeated.hash
                    WHERE i.app_id = n_app[repeated.row] AND i.key = repeated.key
                    RETURNING repeated.row, i.body_hash, i.notification_id, i.answer;
            END LOOP;
        END IF;
    END IF;
    INSERT INTO notifications (id, app_id, created_at, released_at, expires_at, name, send, targeted, devices)
        SELECT s.id, s.app, to_timestamp(s.created), to_timestamp(s.released), to_timestamp(s.expires), s.name, s.send,
            s.targeted, CASE WHEN s.low > 0 THEN p_devices[s.low:s.high] END
        FROM unnest(n_id, n_app, n_created, n_released, n_expires, n_name, n_send, n_targeted, n_low, n_high, n_due)
            WITH ORDINALITY AS s (id, app, created, released, expires, name, send, targeted, low, high, due, row)
        WHERE s.row <> ALL (known) AND s.due IS NULL;
    INSERT INTO runs (notification_id, app_id, node_id, created_at, at_most_once)
        SELECT s.id, s.app, p_node, to_timestamp(s.created), s.once
        FROM unnest(n_id, n_app, n_created, n_once, n_due) WITH ORDINALITY AS s (id, app, created, once, due, row)
        WHERE s.row <> ALL (known) AND s.due IS NULL;
    IF cardinality(t_row) > 0 THEN
        INSERT INTO targets (notification_id, part, count, devices, created_at)
            SELECT n_id[t.row], t.part, t.count, t.devices, to_timestamp(n_created[t.row])
            FROM unnest(t_row, t_part, t_count, t_devices) AS t (row, part, count, devices) WHERE t.row <> ALL (known);
    END IF;
    IF cardinality(n_due) > 0 THEN
        INSERT INTO schedules (id, app_id, created_at, accepted_at, name, send, recurring, next_at, nominal)
            SELECT s.id, s.app, to_timestamp(s.created), to_timestamp(s.created), s.name, s.send, s.recurring,
                to_timestamp(s.due), to_timestamp(s.nominal)
            FROM unnest(n_id, n_app, n_created, n_name, n_send, n_recurring, n_due, n_nominal)
                WITH ORDINALITY AS s (id, app, created, name, send, recurring, due, nominal, row)
            WHERE s.row <> ALL (known) AND s.due IS NOT NULL;
        PERFORM note_change(11::smallint, s.app, array_agg(s.id::int))
            FROM unnest(n_id, n_app, n_created, n_due) WITH ORDINALITY AS s (id, app, created, due, row)
            WHERE s.row <> ALL (known) AND s.due <= s.created + 60 GROUP BY s.app;
    END IF;
    IF cardinality(e_row) > 0 THEN
        INSERT INTO dialect_events (id, app_id, dialect, user_id, target, notification_id, told, created_at, updated_at)
            SELECT e.id, n_app[e.row], e.dialect, e.user_id, e.target, n_id[e.row], e.told, to_timestamp(e.created),
                to_timestamp(e.created)
            FROM unnest(e_row, e_id, e_dialect, e_user, e_target, e_told, e_created)
                AS e (row, id, dialect, user_id, target, told, created)
            WHERE e.row <> ALL (known);
    END IF;
    IF EXISTS (SELECT FROM listeners) THEN
        PERFORM note_accepted(n_id, n_app, n_created, n_released, n_name, n_targeted, n_due, known);
    END IF;
END $$;

-- Makes sure that no accept that this node sent before is still under way, and gives the epoch for those to come.
CREATE FUNCTION next_epoch(p_node bigint) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    raised int;
BEGIN
    PERFORM 1 FROM nodes WHERE id = p_node FOR UPDATE;
    UPDATE nodes SET epoch = epoch + 1 WHERE id = p_node RETURNING epoch INTO raised;
    RETURN raised;
END $$;

-- Which run a number names. Its rows come and go, so that statistics often say there are none: OFFSET 0 keeps a join from
-- holding all runs that there are against all that are named.
CREATE FUNCTION run_of(p_run bigint) RETURNS SETOF runs LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT * FROM runs r WHERE r.notification_id = (p_run & 4294967295) AND r.release = (p_run >> 32)::int OFFSET 0
$$;

-- Commits what became of rows. r_*: rows of small sends. d_*: deltas of large ones. x_*: dead tokens, each retired if the
-- device has that revision still and was not registered after x_at. p_named: all runs that it speaks of, those that another
-- node owns are refused; p_finished: those that are over, p_ended: of rollouts, which are over with their last one.
CREATE FUNCTION settle(
    p_node bigint, p_receipt bigint, p_now timestamptz,
    r_notification bigint[], r_device int[], r_gateway smallint[], r_code smallint[],
    d_run bigint[], d_part int[], d_gateway smallint[], d_code smallint[], d_count int[], d_devices bytea[],
    x_id int[], x_revision int[], x_at timestamptz[], x_reason text[], x_credential int[],
    p_named bigint[], p_finished bigint[], p_ended bigint[],
    OUT refused bigint[], OUT compactable bigint[], OUT retired device_columns
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    seen bigint[];
    owned bigint[];
    owning int[];
    over bigint[];
    whole bigint[];
    dead int[];
    listened boolean := EXISTS (SELECT FROM listeners);
    ended_apps int[];
    ended_ids bigint[];
    ended_cancelled boolean[];
BEGIN
    -- The row of the node is the fence: whoever claims our work locks it first.
    SELECT receipts INTO seen FROM nodes WHERE id = p_node AND fenced_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        refused := p_named;
        RETURN;
    END IF;
    IF p_receipt = ANY (seen) THEN
        -- Committed before, and the answer was lost.
        SELECT coalesce(array_agg(n.run), '{}') INTO refused FROM unnest(p_named) AS n (run)
            CROSS JOIN LATERAL run_of(n.run) r WHERE r.node_id <> p_node;
        SELECT array_agg(d.id) INTO dead FROM unnest(x_id, x_revision) AS x (id, revision)
            JOIN devices d ON d.id = x.id WHERE d.revision > x.revision;
        retired := device_images(dead);
        RETURN;
    END IF;
    UPDATE nodes SET receipts = (ARRAY[p_receipt] || receipts)[1:64] WHERE id = p_node;

    refused := '{}';
    SELECT coalesce(array_agg(n.run), '{}'), array_agg(r.app_id) INTO owned, owning FROM unnest(p_named) AS n (run)
        CROSS JOIN LATERAL run_of(n.run) r WHERE r.node_id = p_node;
    IF cardinality(owned) < cardinality(p_named) THEN
        SELECT array_agg(n.run) INTO refused FROM unnest(p_named) AS n (run) WHERE n.run <> ALL (owned);
    END IF;

    INSERT INTO outcomes (device_id, notification_id, gateway, code, at)
        SELECT r.device, r.notification, r.gateway, r.code, p_now
        FROM unnest(r_notification, r_device, r_gateway, r_code) AS r (notification, device, gateway, code)
        WHERE refused = '{}' OR r.notification <> ALL (refused);
    INSERT INTO outcome_deltas (notification_id, release, app_id, part, gateway, code, count, devices, at)
        SELECT r.notification_id, r.release, r.app_id, d.part, d.gateway, d.code, d.count, d.devices, p_now
        FROM unnest(d_run, d_part, d_gateway, d_code, d_count, d_devices) AS d (run, part, gateway, code, count, devices)
        CROSS JOIN LATERAL run_of(d.run) r WHERE r.node_id = p_node;
    IF listened THEN
        PERFORM note_outcomes(p_now, owned, owning, r_notification, r_device, r_gateway, r_code, d_run, d_gateway, d_code,
            d_count, d_devices);
    END IF;

    IF cardinality(p_finished) > 0 THEN
        WITH gone AS (
            DELETE FROM runs r WHERE r.notification_id = ANY (p_finished) AND r.release = 0 AND r.node_id = p_node
            RETURNING r.notification_id, r.app_id, r.created_at, r.cancelled_at, r.at_most_once
        ), forgotten AS (
            DELETE FROM attempts a WHERE a.notification_id = ANY (ARRAY(
                SELECT gone.notification_id FROM gone WHERE gone.at_most_once))
        ), ended AS (
            INSERT INTO finished (notification_id, created_at, finished_at, cancelled)
            SELECT gone.notification_id, gone.created_at, p_now, gone.cancelled_at IS NOT NULL FROM gone
        )
        SELECT array_agg(gone.app_id), array_agg(gone.notification_id), array_agg(gone.cancelled_at IS NOT NULL)
            INTO ended_apps, ended_ids, ended_cancelled FROM gone WHERE listened;
        IF listened THEN
            PERFORM note_finished(p_now, ended_apps, ended_ids, ended_cancelled);
        END IF;
        SELECT array_agg(f.id) INTO compactable FROM unnest(p_finished) AS f (id)
            CROSS JOIN LATERAL (SELECT FROM outcome_deltas d WHERE d.notification_id = f.id LIMIT 1) d
            WHERE (refused = '{}' OR f.id <> ALL (refused));
    END IF;

    IF cardinality(p_ended) > 0 THEN
        -- Two nodes that end the last two runs at once: the second waits here, and then sees that it is the last.
        PERFORM o.notification_id FROM (SELECT DISTINCT e.run & 4294967295 AS id FROM unnest(p_ended) AS e (run)) e
            JOIN rollouts o ON o.notification_id = e.id ORDER BY o.notification_id FOR UPDATE OF o;
        WITH gone AS (
            DELETE FROM runs r WHERE r.notification_id = ANY (ARRAY(SELECT e.run & 4294967295 FROM unnest(p_ended) AS e (run)))
                AND r.notification_id + (r.release::bigint << 32) = ANY (p_ended) AND r.node_id = p_node
            RETURNING r.notification_id, r.release, r.at_most_once
        ), forgotten AS (
            DELETE FROM attempts a WHERE (a.notification_id, a.release) IN (
                SELECT gone.notification_id, gone.release FROM gone WHERE gone.at_most_once)
        )
        SELECT array_agg(DISTINCT gone.notification_id) INTO over FROM gone;
        SELECT f.finished INTO whole FROM finish_rollouts(over, p_now) f (finished);
        compactable := compactable || whole;
        IF listened THEN
            PERFORM note_rollouts_finished(p_now, over);
        END IF;
    END IF;

    IF cardinality(x_id) > 0 THEN
        PERFORM d.id FROM unnest(x_id) AS x (id) JOIN devices d ON d.id = x.id ORDER BY d.id FOR UPDATE OF d;
        WITH struck AS (
            UPDATE devices d SET flags = d.flags | 4, revision = d.revision + 1, retired_at = p_now,
                retired_reason = x.reason, retired_by = nullif(x.credential, 0)
            FROM unnest(x_id, x_revision, x_at, x_reason, x_credential) AS x (id, revision, at, reason, credential)
            -- Compared as it stands, the flags are thought to be rare, and every device is held against all that are dead.
            WHERE d.id = x.id AND d.revision = x.revision AND d.registered_at <= x.at
                AND CASE WHEN d.flags & 13 = 1 THEN true ELSE false END
            RETURNING d.id
        )
        SELECT coalesce(array_agg(struck.id), '{}') INTO dead FROM struck;
        retired := changed_devices(dead);
        IF listened THEN
            PERFORM note_retired(p_now, dead);
        END IF;
    END IF;
END $$;

-- Fences a node that is thought to be dead; false where its session lives, or somebody else is at it.
CREATE FUNCTION fence_dead(p_other bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(7002, p_other::int) THEN
        RETURN false;
    END IF;
    -- What the dead node has under way holds its row until it ends; an update alone would not wait for that.
    PERFORM 1 FROM nodes WHERE id = p_other FOR UPDATE;
    UPDATE nodes SET fenced_at = now() WHERE id = p_other AND fenced_at IS NULL;
    RETURN true;
END $$;

-- Fences dead nodes and takes over what they left, at most p_limit notifications: those that p_node owns from now on.
CREATE FUNCTION claim_runs(p_node bigint, p_limit int, p_others bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    other bigint;
    room int := p_limit;
    taken int;
BEGIN
    PERFORM 1 FROM nodes WHERE id = p_node AND fenced_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR other IN SELECT DISTINCT o FROM unnest(p_others) o WHERE o <> p_node ORDER BY 1 LOOP
        EXIT WHEN room <= 0;
        CONTINUE WHEN NOT fence_dead(other);
        -- A statement of its own: it sees what the dead node committed while we waited for its row.
        UPDATE runs r SET node_id = p_node, claimed = true WHERE (r.notification_id, r.release) IN (
            SELECT k.notification_id, k.release FROM runs k WHERE k.node_id = other
            ORDER BY k.notification_id, k.release LIMIT room);
        GET DIAGNOSTICS taken = ROW_COUNT;
        room := room - taken;
    END LOOP;
END $$;

-- Makes an app vanish for everyone, its keys and credentials with it; its rows are purged later. What it has under way is
-- ended by end_schedules and end_runs: in transactions of their own, for everybody reads the feeds below the oldest that runs.
CREATE FUNCTION delete_app(p_app int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7001, p_app);
    UPDATE apps SET deleted_at = now() WHERE id = p_app AND deleted_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE api_keys SET revoked_at = now() WHERE app_id = p_app AND revoked_at IS NULL;
    DELETE FROM credentials WHERE app_id = p_app;
    DELETE FROM webhooks WHERE app_id = p_app;
    DELETE FROM listeners WHERE app_id = p_app;
    PERFORM note_change(3::smallint, p_app, '{}');
    PERFORM note_change(4::smallint, p_app, '{}');
    PERFORM note_change(5::smallint, p_app, ARRAY[p_app]);
    RETURN true;
END $$;

-- Deletes rows of apps that are gone, at most so many of each table, and short-lived rows that are past their time, schedules
-- that ended before p_history among them. False when nothing is left to do.
CREATE FUNCTION purge(p_feed timestamptz, p_idempotency timestamptz, p_history timestamptz, p_rows int) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    gone int[];
    deleted int;
    most int := 0;
    first int := 0;
BEGIN
    SELECT coalesce(array_agg(id), '{}') INTO gone FROM apps WHERE deleted_at < p_feed AND purged_at IS NULL;
    IF cardinality(gone) > 0 THEN
        WITH chunk AS (SELECT d.id FROM id_blocks b JOIN devices d ON d.id >= b.start AND d.id < b.next
            WHERE b.space = 1 AND b.app_id = ANY (gone) LIMIT p_rows)
            DELETE FROM devices d USING chunk WHERE d.id = chunk.id;
        GET DIAGNOSTICS deleted = ROW_COUNT;
        most := greatest(most, deleted);
        WITH chunk AS (SELECT u.id FROM id_blocks b JOIN users u ON u.id >= b.start AND u.id < b.next
            WHERE b.space = 2 AND b.app_id = ANY (gone) LIMIT p_rows)
            DELETE FROM users u USING chunk WHERE u.id = chunk.id;
        GET DIAGNOSTICS deleted = ROW_COUNT;
        most := greatest(most, deleted);
        DELETE FROM installs WHERE id IN (SELECT id FROM installs WHERE app_id = ANY (gone) LIMIT p_rows);
        GET DIAGNOSTICS deleted = ROW_COUNT;
        most := greatest(most, deleted);
        DELETE FROM schedules WHERE ctid = ANY (ARRAY(SELECT ctid FROM schedules WHERE app_id = ANY (gone) LIMIT p_rows));
        GET DIAGNOSTICS deleted = ROW_COUNT;
        most := greatest(most, deleted);
        DELETE FROM dialect_events
            WHERE ctid = ANY (ARRAY(SELECT ctid FROM dialect_events WHERE app_id = ANY (gone) LIMIT p_rows));
        GET DIAGNOSTICS deleted = ROW_COUNT;
        most := greatest(most, deleted);
        DELETE FROM sessions WHERE ctid = ANY (ARRAY(SELECT ctid FROM sessions WHERE app_id = ANY (gone) LIMIT p_rows));
        GET DIAGNOSTICS deleted = ROW_COUNT;
        most := greatest(most, deleted);
        -- What devices and users refer to goes after the last of them: whoever starts meanwhile reads both.
        first := most;
        IF first = 0 THEN
            DELETE FROM labels WHERE id IN (SELECT id FROM labels WHERE app_id = ANY (gone) LIMIT p_rows);
            GET DIAGNOSTICS deleted = ROW_COUNT;
            most := greatest(most, deleted);
            DELETE FROM profiles WHERE id IN (SELECT id FROM profiles WHERE app_id = ANY (gone) LIMIT p_rows);
            GET DIAGNOSTICS deleted = ROW_COUNT;
            most := greatest(most, deleted);
            DELETE FROM routes WHERE id IN (SELECT id FROM routes WHERE app_id = ANY (gone) LIMIT p_rows);
            GET DIAGNOSTICS deleted = ROW_COUNT;
            most := greatest(most, deleted);
        END IF;
        -- They went with the app, but for one that was written in the same moment.
        DELETE FROM credentials WHERE app_id = ANY (gone);
        DELETE FROM safari_sites WHERE app_id = ANY (gone);
        DELETE FROM pictures WHERE app_id = ANY (gone);
        DELETE FROM badge_apps WHERE app_id = ANY (gone);
        DELETE FROM badge_deltas WHERE app_id = ANY (gone);
        DELETE FROM badge_parts WHERE app_id = ANY (gone);
        DELETE FROM templates WHERE app_id = ANY (gone);
        DELETE FROM live_activity_channels WHERE app_id = ANY (gone);
        DELETE FROM open_deltas WHERE app_id = ANY (gone);
        DELETE FROM crowds WHERE app_id = ANY (gone);
        DELETE FROM vendor_keys WHERE app_id = ANY (gone);
        DELETE FROM erasures WHERE app_id = ANY (gone);
        IF most = 0 THEN
            UPDATE apps SET purged_at = now() WHERE id = ANY (gone);
        END IF;
    END IF;
    DELETE FROM devices WHERE id IN (SELECT id FROM devices WHERE deleted_at < p_feed LIMIT p_rows);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    most := greatest(most, deleted);
    DELETE FROM users WHERE id IN (SELECT id FROM users WHERE deleted_at < p_feed LIMIT p_rows);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    most := greatest(most, deleted);
    DELETE FROM changes WHERE ctid = ANY (ARRAY(SELECT ctid FROM changes WHERE at < p_feed LIMIT p_rows));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    most := greatest(most, deleted);
    DELETE FROM idempotency WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency WHERE created_at < p_idempotency LIMIT p_rows));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    most := greatest(most, deleted);
    DELETE FROM schedules WHERE ctid = ANY (ARRAY(SELECT ctid FROM schedules WHERE ended_at < p_history LIMIT p_rows));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    most := greatest(most, deleted);
    DELETE FROM nodes n WHERE n.fenced_at < p_feed AND NOT EXISTS (SELECT FROM runs r WHERE r.node_id = n.id);
    RETURN most = p_rows OR first > 0;
END $$;
