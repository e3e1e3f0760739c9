-- Channels and who is subscribed, segments, and imports: what audiences are made of beside users and devices.

CREATE TABLE channels (
    id             int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id         int NOT NULL,
    uuid           text COLLATE "C" NOT NULL,
    name           text NOT NULL,
    show_in_portal boolean NOT NULL,
    meta           text,
    -- What subscribers carry. It is never used again.
    label          int NOT NULL UNIQUE,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    -- Gone for everyone at once; subscribers are relieved of its label in the background.
    deleted_at     timestamptz,
    -- Whether they are found.
    swept          boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX channels_uuid ON channels (app_id, uuid) WHERE deleted_at IS NULL;
CREATE INDEX channels_app ON channels (app_id, id) WHERE deleted_at IS NULL;
CREATE INDEX channels_deleted ON channels (id) WHERE deleted_at IS NOT NULL;

-- A new channel; PD409 where the uuid is taken, PD429 where the app has p_most.
CREATE FUNCTION create_channel(
    p_now timestamptz, p_app int, p_uuid text, p_name text, p_show boolean, p_meta text, p_most int
) RETURNS channels LANGUAGE plpgsql AS $$
DECLARE
    made channels;
    label_id int;
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    IF EXISTS (SELECT FROM channels c WHERE c.app_id = p_app AND c.uuid = p_uuid AND c.deleted_at IS NULL) THEN
        RAISE EXCEPTION 'the uuid is taken' USING ERRCODE = 'PD409';
    END IF;
    IF (SELECT count(*) FROM channels c WHERE c.app_id = p_app AND c.deleted_at IS NULL) >= p_most THEN
        RAISE EXCEPTION 'there are too many channels' USING ERRCODE = 'PD429';
    END IF;
    INSERT INTO labels (app_id, kind, folded) VALUES (p_app, 1, gen_random_uuid()::text) RETURNING id INTO label_id;
    INSERT INTO channels (app_id, uuid, name, show_in_portal, meta, label, created_at, updated_at)
        VALUES (p_app, p_uuid, p_name, p_show, p_meta, label_id, p_now, p_now) RETURNING * INTO made;
    PERFORM note_change(7::smallint, p_app, ARRAY[made.id]);
    RETURN made;
END $$;

-- The changed channel, or nothing where there is none; arguments that are null leave what they name. PD409 as above.
CREATE FUNCTION update_channel(
    p_now timestamptz, p_app int, p_id int, p_uuid text, p_name text, p_show boolean, p_set_meta boolean, p_meta text
) RETURNS SETOF channels LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    IF EXISTS (SELECT FROM channels c WHERE c.app_id = p_app AND c.uuid = p_uuid AND c.id <> p_id AND c.deleted_at IS NULL) THEN
        RAISE EXCEPTION 'the uuid is taken' USING ERRCODE = 'PD409';
    END IF;
    RETURN QUERY UPDATE channels c SET uuid = coalesce(p_uuid, c.uuid), name = coalesce(p_name, c.name),
            show_in_portal = coalesce(p_show, c.show_in_portal),
            meta = CASE WHEN p_set_meta THEN p_meta ELSE c.meta END, updated_at = p_now
        WHERE c.app_id = p_app AND c.id = p_id AND c.deleted_at IS NULL RETURNING c.*;
    IF FOUND THEN
        PERFORM note_change(7::smallint, p_app, ARRAY[p_id]);
    END IF;
END $$;

CREATE FUNCTION delete_channel(p_now timestamptz, p_app int, p_id int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    gone text;
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    UPDATE channels SET deleted_at = p_now WHERE app_id = p_app AND id = p_id AND deleted_at IS NULL RETURNING uuid INTO gone;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM note_change(7::smallint, p_app, ARRAY[p_id]);
    PERFORM note_event(p_app, 25, p_now, json_build_object('channel', gone)::text);
    RETURN true;
END $$;

-- The list with or without a label, ascending; null when it is empty.
CREATE FUNCTION with_label(p_labels int[], p_label int, p_on boolean) RETURNS int[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(DISTINCT l ORDER BY l) FROM unnest(CASE WHEN p_on THEN p_labels || p_label
        ELSE array_remove(p_labels, p_label) END) l
$$;

-- Sets are looked up by pairs of app and name: with the app as a constant, a plan made before there are statistics reads
-- everyone of the app once for each name.

-- Subscribes users to a channel, or takes them off. `unknown`: those that the app does not have; `full`: those that have
-- p_most channels. PD410 where the channel is gone.
CREATE FUNCTION subscribe_users(
    p_app int, p_channel int, p_external text[], p_on boolean, p_most int,
    OUT unknown text[], OUT full_up text[], OUT images user_columns
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    known int[];
    changed int[];
    v_label int;
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    SELECT c.label INTO v_label FROM channels c WHERE c.app_id = p_app AND c.id = p_channel AND c.deleted_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such channel' USING ERRCODE = 'PD410';
    END IF;
    SELECT array_agg(u.id), coalesce(array_agg(n.name ORDER BY n.row) FILTER (WHERE u.id IS NULL), '{}') INTO known, unknown
        FROM unnest(array_fill(p_app, ARRAY[cardinality(p_external)]), p_external) WITH ORDINALITY AS n (app, name, row)
        LEFT JOIN users u ON u.app_id = n.app AND u.external_id = n.name AND u.deleted_at IS NULL;
    SELECT coalesce(array_agg(u.external_id), '{}') INTO full_up FROM unnest(known) AS n (id) JOIN users u ON u.id = n.id
        WHERE p_on AND cardinality(u.channels) >= p_most AND NOT u.channels @> ARRAY[v_label];
    WITH written AS (
        UPDATE users u SET channels = with_label(u.channels, v_label, p_on), revision = u.revision + 1
            FROM (SELECT DISTINCT k FROM unnest(known) k WHERE k IS NOT NULL ORDER BY k) n
            WHERE u.id = n.k AND coalesce(u.channels @> ARRAY[v_label], false) <> p_on
                AND NOT u.external_id = ANY (full_up)
            RETURNING u.id
    )
    SELECT coalesce(array_agg(written.id), '{}') INTO changed FROM written;
    images := changed_users(changed);
    PERFORM note_subscribed(p_app, 'users', changed, CASE WHEN NOT p_on THEN ARRAY[v_label] END,
        CASE WHEN p_on THEN ARRAY[v_label] END);
END $$;

-- As subscribe_users, for installs.
CREATE FUNCTION subscribe_installs(
    p_app int, p_channel int, p_names text[], p_on boolean, p_most int,
    OUT unknown text[], OUT full_up text[], OUT images device_columns
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    known int[];
    moved int[];
    changed int[];
    v_label int;
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    SELECT c.label INTO v_label FROM channels c WHERE c.app_id = p_app AND c.id = p_channel AND c.deleted_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such channel' USING ERRCODE = 'PD410';
    END IF;
    SELECT array_agg(i.id), coalesce(array_agg(n.name ORDER BY n.row) FILTER (WHERE i.id IS NULL), '{}') INTO known, unknown
        FROM unnest(array_fill(p_app, ARRAY[cardinality(p_names)]), p_names) WITH ORDINALITY AS n (app, name, row)
        LEFT JOIN installs i ON i.app_id = n.app AND i.name = n.name;
    SELECT coalesce(array_agg(i.name), '{}') INTO full_up FROM unnest(known) AS n (id) JOIN installs i ON i.id = n.id
        WHERE p_on AND cardinality(i.channels) >= p_most AND NOT i.channels @> ARRAY[v_label];
    WITH written AS (
        UPDATE installs i SET channels = with_label(i.channels, v_label, p_on)
            FROM (SELECT DISTINCT k FROM unnest(known) k WHERE k IS NOT NULL ORDER BY k) n
            WHERE i.id = n.k AND coalesce(i.channels @> ARRAY[v_label], false) <> p_on AND NOT i.name = ANY (full_up)
            RETURNING i.id
    )
    SELECT coalesce(array_agg(written.id), '{}') INTO moved FROM written;
    changed := relabel_installs(moved);
    images := changed_devices(changed);
    PERFORM note_subscribed(p_app, 'installs', moved, CASE WHEN NOT p_on THEN ARRAY[v_label] END,
        CASE WHEN p_on THEN ARRAY[v_label] END);
END $$;

-- Shows the labels of installs in the images of their devices; those that changed.
CREATE FUNCTION relabel_installs(p_installs int[]) RETURNS int[] LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    changed int[];
BEGIN
    -- In the order of ids, as whoever retires devices locks them.
    PERFORM d.id FROM unnest(p_installs) AS n (id) JOIN devices d ON d.install = n.id
        WHERE d.deleted_at IS NULL ORDER BY d.id FOR UPDATE OF d;
    WITH theirs AS (
        UPDATE devices d SET labels = i.tags || i.channels, revision = d.revision + 1
            FROM unnest(p_installs) AS n (id) JOIN installs i ON i.id = n.id
            WHERE d.install = i.id AND d.deleted_at IS NULL AND d.labels IS DISTINCT FROM i.tags || i.channels
            RETURNING d.id
    )
    SELECT coalesce(array_agg(theirs.id), '{}') INTO changed FROM theirs;
    RETURN changed;
END $$;

-- Changes the channels of one user, or of one install (the other is null): off those of p_remove, or off all with p_replace,
-- and onto those of p_add; channels by uuid. PD410 where a channel is not there, PD411 where he is not, PD429 past p_most.
CREATE FUNCTION change_channels(
    p_app int, p_user text, p_install text, p_add text[], p_remove text[], p_replace boolean, p_most int,
    OUT users user_columns, OUT devices device_columns
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    adding int[];
    removing int[];
    had int[];
    v_id int;
    has int[];
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    SELECT coalesce(array_agg(c.label), '{}') INTO adding
        FROM (SELECT DISTINCT u.app, u.a FROM unnest(array_fill(p_app, ARRAY[cardinality(p_add)]), p_add) AS u (app, a)) n
        JOIN channels c ON c.app_id = n.app AND c.uuid = n.a AND c.deleted_at IS NULL;
    SELECT coalesce(array_agg(c.label), '{}') INTO removing
        FROM (SELECT DISTINCT u.app, u.r FROM unnest(array_fill(p_app, ARRAY[cardinality(p_remove)]), p_remove) AS u (app, r)) n
        JOIN channels c ON c.app_id = n.app AND c.uuid = n.r AND c.deleted_at IS NULL;
    IF cardinality(adding) + cardinality(removing) < (SELECT count(DISTINCT a) FROM unnest(p_add) a)
            + (SELECT count(DISTINCT r) FROM unnest(p_remove) r) THEN
        RAISE EXCEPTION 'there is no such channel' USING ERRCODE = 'PD410';
    END IF;
    IF p_install IS NULL THEN
        SELECT u.id, u.channels INTO v_id, had FROM users u
            WHERE u.app_id = p_app AND u.external_id = p_user AND u.deleted_at IS NULL;
    ELSE
        SELECT i.id, i.channels INTO v_id, had FROM installs i WHERE i.app_id = p_app AND i.name = p_install;
    END IF;
    IF v_id IS NULL THEN
        RAISE EXCEPTION 'there is nobody to subscribe' USING ERRCODE = 'PD411';
    END IF;
    SELECT array_agg(DISTINCT l ORDER BY l) INTO has FROM (
        SELECT h FROM unnest(CASE WHEN p_replace THEN '{}' ELSE had END) h WHERE h <> ALL (removing)
        UNION SELECT a FROM unnest(adding) a) n (l);
    IF cardinality(has) > p_most THEN
        RAISE EXCEPTION 'there are too many channels' USING ERRCODE = 'PD429';
    END IF;
    IF has IS NOT DISTINCT FROM had THEN
        RETURN;
    END IF;
    IF p_install IS NULL THEN
        UPDATE users u SET channels = has, revision = u.revision + 1 WHERE u.id = v_id;
        users := changed_users(ARRAY[v_id]);
    ELSE
        UPDATE installs i SET channels = has WHERE i.id = v_id;
        devices := changed_devices(relabel_installs(ARRAY[v_id]));
    END IF;
    PERFORM note_subscribed(p_app, CASE WHEN p_install IS NULL THEN 'users' ELSE 'installs' END, ARRAY[v_id], had, has);
END $$;

-- Whom a deleted channel's label is still to be taken off, in portions: found once, for a channel that is gone gets nobody more.
CREATE TABLE channel_leavers (
    channel_id int NOT NULL REFERENCES channels ON DELETE CASCADE,
    -- Users, or installs.
    users      boolean NOT NULL,
    portion    int NOT NULL,
    ids        int[] NOT NULL,
    PRIMARY KEY (channel_id, users, portion)
);

-- One step of relieving subscribers of the label of a deleted channel: finds them, takes it off at most p_rows of them, or,
-- when all are done, ends the channel. False when nothing is left to do. What changed, every node learns from the feed.
CREATE FUNCTION sweep_channels(p_rows int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    gone channels;
    leaving channel_leavers;
BEGIN
    SELECT * INTO gone FROM channels WHERE deleted_at IS NOT NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF NOT gone.swept THEN
        INSERT INTO channel_leavers (channel_id, users, portion, ids)
            SELECT gone.id, true, n.portion, array_agg(n.id) FROM (
                SELECT id, row_number() OVER (ORDER BY id) / p_rows AS portion FROM users WHERE channels @> ARRAY[gone.label]) n
            GROUP BY n.portion;
        INSERT INTO channel_leavers (channel_id, users, portion, ids)
            SELECT gone.id, false, n.portion, array_agg(n.id) FROM (
                SELECT id, row_number() OVER (ORDER BY id) / p_rows AS portion FROM installs WHERE channels @> ARRAY[gone.label]) n
            GROUP BY n.portion;
        UPDATE channels SET swept = true WHERE id = gone.id;
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock(7001, gone.app_id);
    SELECT * INTO leaving FROM channel_leavers WHERE channel_id = gone.id ORDER BY users, portion LIMIT 1;
    IF NOT FOUND THEN
        DELETE FROM channels WHERE id = gone.id;
        RETURN true;
    END IF;
    IF leaving.users THEN
        UPDATE users SET channels = with_label(channels, gone.label, false), revision = revision + 1
            WHERE id = ANY (leaving.ids) AND channels @> ARRAY[gone.label];
        PERFORM changed_users(leaving.ids);
    ELSE
        UPDATE installs SET channels = with_label(channels, gone.label, false)
            WHERE id = ANY (leaving.ids) AND channels @> ARRAY[gone.label];
        PERFORM changed_devices(relabel_installs(leaving.ids));
    END IF;
    DELETE FROM channel_leavers
        WHERE channel_id = gone.id AND users = leaving.users AND portion = leaving.portion;
    RETURN true;
END $$;

CREATE TABLE segments (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id     int NOT NULL,
    uuid       text COLLATE "C" NOT NULL,
    name       text NOT NULL,
    -- An audience, as JSON.
    audience   text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app_id, uuid)
);
CREATE INDEX segments_app ON segments (app_id, id);

-- Files whose lines are carried out in the background, in the order in which they stand.
CREATE TABLE imports (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id      int NOT NULL,
    -- What a line means, and of which format it is, as JSON.
    job         text NOT NULL,
    -- Whom a job subscribes, or takes off: it stays the same channel under another uuid.
    channel_id  int,
    -- uploading, waiting, running, done, failed, cancelled
    state       text NOT NULL,
    -- Who carries it out; another may when that node is gone.
    node_id     bigint,
    -- First line of the first part.
    head        bytea NOT NULL DEFAULT '',
    parts       int NOT NULL DEFAULT 0,
    lines       int NOT NULL DEFAULT 0,
    -- Lines that are committed: it is gone on with behind them.
    done        int NOT NULL DEFAULT 0,
    rejected    int NOT NULL DEFAULT 0,
    failure     text,
    created_at  timestamptz NOT NULL,
    -- Of the newest part, while it is uploaded.
    touched_at  timestamptz NOT NULL,
    started_at  timestamptz,
    finished_at timestamptz
);
CREATE INDEX imports_app ON imports (app_id, id);
CREATE INDEX imports_waiting ON imports (started_at, id) WHERE state = 'waiting';
CREATE INDEX imports_uploading ON imports (touched_at) WHERE state = 'uploading';
-- Those of one app are carried out one after the other.
CREATE UNIQUE INDEX imports_running ON imports (app_id) WHERE state = 'running';

-- Whole lines, in parts; each goes when it is carried out.
CREATE TABLE import_parts (
    import_id int NOT NULL REFERENCES imports ON DELETE CASCADE,
    part      int NOT NULL,
    lines     int NOT NULL,
    digest    bytea NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (import_id, part)
);
ALTER TABLE import_parts ALTER body SET STORAGE EXTERNAL;

-- Some of the lines that came to nothing, for people to read.
CREATE TABLE import_rejects (
    import_id int NOT NULL REFERENCES imports ON DELETE CASCADE,
    line      int NOT NULL,
    value     text NOT NULL,
    reason    text NOT NULL,
    PRIMARY KEY (import_id, line)
);

-- A new import, or nothing where the app has p_most that are not finished.
CREATE FUNCTION create_import(p_now timestamptz, p_app int, p_job text, p_channel int, p_most int)
RETURNS SETOF imports LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    IF (SELECT count(*) FROM imports WHERE app_id = p_app AND state IN ('uploading', 'waiting', 'running')) >= p_most THEN
        RETURN;
    END IF;
    RETURN QUERY INSERT INTO imports (app_id, job, channel_id, state, created_at, touched_at)
        VALUES (p_app, p_job, p_channel, 'uploading', p_now, p_now) RETURNING *;
END $$;

-- Takes a part in: `stored`, also when it was there; `other` where another stands under its number, `closed` where nothing
-- is uploaded any more, `missing` where there is no such import.
CREATE FUNCTION put_import_part(
    p_now timestamptz, p_app int, p_import int, p_part int, p_lines int, p_digest bytea, p_body bytea, p_head bytea
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_state text;
    v_digest bytea;
BEGIN
    SELECT state INTO v_state FROM imports WHERE id = p_import AND app_id = p_app FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'missing';
    END IF;
    SELECT digest INTO v_digest FROM import_parts WHERE import_id = p_import AND part = p_part;
    IF FOUND THEN
        RETURN CASE WHEN v_digest = p_digest THEN 'stored' ELSE 'other' END;
    END IF;
    IF v_state <> 'uploading' THEN
        RETURN 'closed';
    END IF;
    INSERT INTO import_parts (import_id, part, lines, digest, body) VALUES (p_import, p_part, p_lines, p_digest, p_body);
    UPDATE imports SET parts = parts + 1, lines = lines + p_lines, touched_at = p_now,
        head = CASE WHEN p_part = 1 THEN p_head ELSE head END WHERE id = p_import;
    RETURN 'stored';
END $$;

-- Lets an import be carried out: `started`, also when it was; `gaps` where parts are missing, `closed`, `missing` as above.
CREATE FUNCTION start_import(p_now timestamptz, p_app int, p_import int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_state text;
BEGIN
    SELECT state INTO v_state FROM imports WHERE id = p_import AND app_id = p_app FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'missing';
    ELSIF v_state IN ('waiting', 'running', 'done') THEN
        RETURN 'started';
    ELSIF v_state <> 'uploading' THEN
        RETURN 'closed';
    ELSIF (SELECT count(*) = 0 OR max(part) <> count(*) FROM import_parts WHERE import_id = p_import) THEN
        RETURN 'gaps';
    END IF;
    UPDATE imports SET state = 'waiting', started_at = p_now WHERE id = p_import;
    RETURN 'started';
END $$;

-- Ends an import as p_state, and forgets what is left of its parts; false where it has ended.
CREATE FUNCTION end_import(p_now timestamptz, p_import int, p_state text, p_failure text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE imports SET state = p_state, failure = p_failure, finished_at = p_now
        WHERE id = p_import AND state IN ('uploading', 'waiting', 'running');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM import_parts WHERE import_id = p_import;
    RETURN true;
END $$;

-- Gives a node the import that has waited longest, of an app of which none is running; null where there is none.
CREATE FUNCTION take_import(p_node bigint) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_id int;
BEGIN
    PERFORM 1 FROM nodes WHERE id = p_node AND fenced_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT id INTO v_id FROM imports i WHERE state = 'waiting'
        AND NOT EXISTS (SELECT FROM imports r WHERE r.app_id = i.app_id AND r.state = 'running')
        ORDER BY started_at, id LIMIT 1 FOR UPDATE SKIP LOCKED;
    UPDATE imports SET state = 'running', node_id = p_node WHERE id = v_id;
    RETURN v_id;
EXCEPTION WHEN unique_violation THEN
    RETURN NULL;  -- another node took one of the same app in this moment
END $$;

-- Makes what dead nodes carried out wait again, each under its fence; as claim_runs.
CREATE FUNCTION claim_imports(p_node bigint, p_others bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    other bigint;
BEGIN
    PERFORM 1 FROM nodes WHERE id = p_node AND fenced_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR other IN SELECT DISTINCT o FROM unnest(p_others) o WHERE o <> p_node ORDER BY 1 LOOP
        CONTINUE WHEN NOT fence_dead(other);
        UPDATE imports SET state = 'waiting', node_id = NULL WHERE node_id = other AND state = 'running';
    END LOOP;
END $$;

-- Whether a node may carry out the lines behind p_done; until the transaction ends nobody takes the import from it.
CREATE FUNCTION hold_import(p_node bigint, p_import int, p_done int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM nodes WHERE id = p_node AND fenced_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM 1 FROM imports WHERE id = p_import AND node_id = p_node AND state = 'running' AND done = p_done FOR UPDATE;
    RETURN FOUND;
END $$;

-- Notes that p_lines more are done, in the transaction that carried them out; p_part, if not null, with the last of them.
-- Of rejects at most p_most are kept.
CREATE FUNCTION advance_import(
    p_now timestamptz, p_import int, p_lines int, p_part int, p_rejected int,
    p_numbers int[], p_values text[], p_reasons text[], p_most int
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(p_numbers) > 0 THEN
        INSERT INTO import_rejects (import_id, line, value, reason)
            SELECT p_import, n.line, n.value, n.reason FROM unnest(p_numbers, p_values, p_reasons) AS n (line, value, reason)
            ORDER BY n.line LIMIT greatest(0, p_most - (SELECT rejected FROM imports WHERE id = p_import));
    END IF;
    IF p_part IS NOT NULL THEN
        DELETE FROM import_parts WHERE import_id = p_import AND part = p_part;
    END IF;
    UPDATE imports SET done = done + p_lines, rejected = rejected + p_rejected WHERE id = p_import;
    UPDATE imports SET state = 'done', finished_at = p_now
        WHERE id = p_import AND NOT EXISTS (SELECT FROM import_parts WHERE import_id = p_import);
END $$;

-- Forgets uploads that nobody went on with, imports that ended long ago, and what apps that are gone had defined.
CREATE FUNCTION sweep_imports(p_now timestamptz, p_upload timestamptz, p_ended timestamptz) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    gone int[];
    swept int;
BEGIN
    SELECT coalesce(array_agg(id), '{}') INTO gone FROM apps WHERE deleted_at IS NOT NULL;
    PERFORM end_import(p_now, i.id, 'cancelled', NULL) FROM imports i
        WHERE (i.state = 'uploading' AND i.touched_at < p_upload)
            OR (i.state IN ('uploading', 'waiting', 'running') AND i.app_id = ANY (gone));
    DELETE FROM imports WHERE id IN (SELECT id FROM imports
        WHERE finished_at IS NOT NULL AND (finished_at < p_ended OR app_id = ANY (gone)) LIMIT 1000);
    GET DIAGNOSTICS swept = ROW_COUNT;
    DELETE FROM segments WHERE app_id = ANY (gone);
    DELETE FROM channels WHERE app_id = ANY (gone);
    RETURN swept;
END $$;
