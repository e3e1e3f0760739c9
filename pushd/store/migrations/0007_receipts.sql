-- What devices report of notifications: receipts, the bitmaps that are folded from them, and who opened anything on which day.
--
-- A receipt is one row, found by its notification: repeats of an event id are known by the primary key, and the first time
-- of opening of an install or a user is read from an index. Everything ages out with the notification that it is about.

CREATE TABLE receipts (
    notification_id bigint NOT NULL,
    install         int NOT NULL,
    -- BLAKE2b of the event id, cut to 64 bits: it tells apart what one install says of one notification.
    event_id        bigint NOT NULL,
    -- 1 delivered, 2 received, 3 opened, 4 clicked, 5 dismissed, 6 read
    event           smallint NOT NULL,
    -- Whose install it was when the receipt came.
    user_id         int,
    button          text COLLATE "C",
    -- By the device's clock, kept between the notification and the arrival of the receipt.
    at              timestamptz NOT NULL,
    -- Of the notification.
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (notification_id, install, event_id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX receipts_user ON receipts (notification_id, user_id, at) WHERE user_id IS NOT NULL AND event IN (3, 4);

-- What is appended of large sends until it is folded: 32-bit ids, most significant byte first.
CREATE TABLE receipt_deltas (
    notification_id bigint NOT NULL,
    app_id          int NOT NULL,
    event           smallint NOT NULL,
    button          text COLLATE "C" NOT NULL,
    devices         bytea NOT NULL,
    at              timestamptz NOT NULL,
    created_at      timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX receipt_deltas_notification ON receipt_deltas (notification_id);
ALTER TABLE receipt_deltas ALTER COLUMN devices SET STORAGE EXTERNAL;

-- The folded form: bitmaps in parts of 2^20 ids.
CREATE TABLE receipt_parts (
    notification_id bigint NOT NULL,
    app_id          int NOT NULL,
    part            int NOT NULL,
    event           smallint NOT NULL,
    button          text COLLATE "C" NOT NULL,
    count           int NOT NULL,
    devices         bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (notification_id, part, event, button, created_at)
) PARTITION BY RANGE (created_at);
ALTER TABLE receipt_parts ALTER COLUMN devices SET STORAGE EXTERNAL;

-- Devices whose install opened anything of the app on a day (UTC), in the same two forms.
CREATE TABLE opened_day_deltas (
    app_id  int NOT NULL,
    day     timestamptz NOT NULL,
    devices bytea NOT NULL,
    at      timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX opened_day_deltas_app ON opened_day_deltas (app_id, day);
ALTER TABLE opened_day_deltas ALTER COLUMN devices SET STORAGE EXTERNAL;

CREATE TABLE opened_days (
    app_id  int NOT NULL,
    day     timestamptz NOT NULL,
    part    int NOT NULL,
    count   int NOT NULL,
    devices bytea NOT NULL,
    PRIMARY KEY (app_id, day, part)
) PARTITION BY RANGE (day);
ALTER TABLE opened_days ALTER COLUMN devices SET STORAGE EXTERNAL;

SELECT make_partitions(now(), 2);

-- Takes receipts. n_*: the notifications that they are about, i_*: the installs that they are of, each once; r_send and
-- r_install point into these from 1. r_at: seconds since the epoch, null for now. Gives the rows (from 1) that are new, and those that
-- were known; the rest names a notification or an install that the app does not have.
CREATE FUNCTION take_receipts(
    p_now timestamptz, n_app int[], n_id bigint[], i_app int[], i_name text[],
    r_send int[], r_install int[], r_event_id bigint[], r_event smallint[], r_button text[], r_at float8[],
    OUT taken int[], OUT repeated int[]
) LANGUAGE plpgsql
-- Look-ups are nested loops by their shape; what else is joined are rows of this call, and there a loop would be square.
SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    created timestamptz[];
    large boolean[];
    installs int[];
    users int[];
    profiles int[];
    known int[];
BEGIN
    SELECT array_agg(coalesce(s.created_at, '-infinity') ORDER BY n.row), array_agg(coalesce(s.large, false) ORDER BY n.row)
        INTO created, large
        FROM unnest(n_app, n_id) WITH ORDINALITY AS n (app, id, row) LEFT JOIN LATERAL (
            SELECT k.created_at, k.devices IS NULL AS large FROM notifications k WHERE k.app_id = n.app AND k.id = n.id LIMIT 1
        ) s ON true;
    SELECT array_agg(coalesce(i.id, 0) ORDER BY n.row), array_agg(coalesce(i.user_id, 0) ORDER BY n.row),
            array_agg(coalesce(i.profile_id, 0) ORDER BY n.row)
        INTO installs, users, profiles
        FROM unnest(i_app, i_name) WITH ORDINALITY AS n (app, name, row) LEFT JOIN LATERAL (
            SELECT k.id, k.user_id, k.profile_id FROM installs k WHERE k.app_id = n.app AND k.name = n.name LIMIT 1
        ) i ON true;
    WITH rows AS MATERIALIZED (
        SELECT r.row::int AS row, n_id[r.send] AS notification_id, installs[r.install] AS install, r.event_id, r.event,
            nullif(users[r.install], 0) AS user_id, r.button, created[r.send] AS created_at,
            greatest(created[r.send], least(p_now, coalesce(to_timestamp(r.at), p_now))) AS at
        FROM unnest(r_send, r_install, r_event_id, r_event, r_button, r_at) WITH ORDINALITY
            AS r (send, install, event_id, event, button, at, row)
        WHERE installs[r.install] > 0 AND created[r.send] > '-infinity'
    ), put AS (
        -- In one order, so that two such calls wait for each other and never in a circle.
        INSERT INTO receipts (notification_id, install, event_id, event, user_id, button, at, created_at)
        SELECT k.notification_id, k.install, k.event_id, k.event, k.user_id, k.button, k.at, k.created_at FROM rows k
        ORDER BY k.notification_id, k.install, k.event_id, k.row
        ON CONFLICT DO NOTHING
        RETURNING notification_id, install, event_id
    ), fresh AS MATERIALIZED (
        SELECT min(k.row) AS row FROM put JOIN rows k USING (notification_id, install, event_id)
        GROUP BY notification_id, install, event_id
    )
    SELECT (SELECT coalesce(array_agg(k.row ORDER BY k.row), '{}') FROM rows k),
        (SELECT coalesce(array_agg(f.row ORDER BY f.row), '{}') FROM fresh f)
        INTO known, taken;
    SELECT coalesce(array_agg(k ORDER BY k), '{}') INTO repeated
        FROM unnest(known) AS k LEFT JOIN unnest(taken) AS t ON t = k WHERE t IS NULL;
    IF taken = '{}' THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM listeners) THEN
        PERFORM note_receipts(p_now, n_app, n_id, created, installs, users, r_send, r_install, r_event, r_button, r_at, taken);
    END IF;
    -- Each row as a whole: an element of an array that holds nulls, or texts, is found by counting.
    WITH fresh AS MATERIALIZED (
        SELECT r.send, r.install, r.event, r.button, greatest(created[r.send], least(p_now, coalesce(to_timestamp(r.at), p_now))) AS at
        FROM unnest(taken) AS t (row) JOIN unnest(r_send, r_install, r_event, r_button, r_at) WITH ORDINALITY
            AS r (send, install, event, button, at, row) ON r.row = t.row
    ), reached AS MATERIALIZED (
        SELECT f.send, f.event, f.button, f.at, d.id FROM fresh f CROSS JOIN LATERAL (
            SELECT k.id FROM devices k WHERE k.install = installs[f.install] AND k.deleted_at IS NULL OFFSET 0) d
        WHERE large[f.send] OR f.event IN (3, 4)
    ), deltas AS (
        INSERT INTO receipt_deltas (notification_id, app_id, event, button, devices, at, created_at)
        SELECT n_id[k.send], n_app[k.send], k.event, k.button, string_agg(int4send(k.id), '' ORDER BY k.id), p_now, created[k.send]
        FROM (
            SELECT DISTINCT r.send, r.event, coalesce(r.button, '') AS button, r.id FROM reached r WHERE large[r.send]
        ) k GROUP BY k.send, k.event, k.button
    ), opened AS (
        -- Of what a user's install opened for the first time: a click after it is no other open.
        SELECT n_app[o.send] AS app, users[o.install] AS usr, profiles[o.install] AS profile, o.at
        FROM (
            SELECT f.send, f.install, count(*) AS count, min(f.at) AS at
            FROM fresh f WHERE f.event IN (3, 4) AND users[f.install] > 0 GROUP BY 1, 2
        ) o
        WHERE o.count = (SELECT count(*) FROM receipts r WHERE r.notification_id = n_id[o.send]
            AND r.install = installs[o.install] AND r.created_at = created[o.send] AND r.event IN (3, 4))
    ), opens AS (
        INSERT INTO open_deltas (app_id, opens, at)
        SELECT o.app, string_agg(int4send(o.usr) || int4send(o.profile)
            || int4send(floor(extract(epoch FROM o.at))::int), ''), p_now
        FROM opened o GROUP BY o.app
    )
    INSERT INTO opened_day_deltas (app_id, day, devices, at)
        SELECT k.app, to_timestamp(k.day * 86400.0), string_agg(int4send(k.id), '' ORDER BY k.id), p_now
        FROM (
            SELECT DISTINCT n_app[r.send] AS app, r.id, floor(extract(epoch FROM r.at)::float8 / 86400) AS day
            FROM reached r WHERE r.event IN (3, 4)
        ) k GROUP BY k.app, k.day;
    IF EXISTS (SELECT FROM badge_apps b WHERE b.app_id = ANY (n_app)) THEN
        PERFORM clear_badges_of_openers(p_now, n_app, installs, r_send, r_install, r_event, taken);
    END IF;
END $$;
