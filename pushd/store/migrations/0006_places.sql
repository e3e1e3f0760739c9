-- Where installs are, geofences, and what crossing them sends.

CREATE TABLE geofences (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id     int NOT NULL,
    name       text NOT NULL,
    -- The GeoJSON Feature as it was given.
    bounds     text NOT NULL,
    enabled    boolean NOT NULL,
    tags       text[] NOT NULL,
    on_enter   text,
    on_exit    text,
    revision   int NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX geofences_app ON geofences (app_id, id);

-- Counted apart from what people edit: every group of reports writes here.
CREATE TABLE geofence_counts (
    geofence_id     int PRIMARY KEY REFERENCES geofences ON DELETE CASCADE,
    entered         bigint NOT NULL DEFAULT 0,
    left_           bigint NOT NULL DEFAULT 0,
    last_entered_at timestamptz
) WITH (fillfactor = 50);

-- Where an install was last, in units of 10^-7 degrees. Nothing older is kept.
CREATE TABLE install_locations (
    install   int PRIMARY KEY REFERENCES installs ON DELETE CASCADE,
    app_id    int NOT NULL,
    -- Seconds since 2020 or more: it grows with every report, also across a deletion.
    revision  int NOT NULL,
    latitude  int NOT NULL,
    longitude int NOT NULL,
    accuracy  real,
    at        timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX install_locations_at ON install_locations (at);
CREATE INDEX install_locations_app ON install_locations (app_id);

-- Crossings that are to be sent and are not yet. Those that share a batch are one notification, whose key is its number.
CREATE TABLE crossings (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id      int NOT NULL,
    geofence_id int NOT NULL REFERENCES geofences ON DELETE CASCADE,
    install     int NOT NULL REFERENCES installs ON DELETE CASCADE,
    entered     boolean NOT NULL,
    at          timestamptz NOT NULL,
    batch       bigint,
    -- Whoever took it has this long before others may.
    taken_until timestamptz
);
CREATE INDEX crossings_batch ON crossings (batch) WHERE batch IS NOT NULL;
CREATE INDEX crossings_geofence ON crossings (geofence_id);
CREATE INDEX crossings_install ON crossings (install);

-- Until when an install that crossed is sent nothing for the next crossing; gone with that time.
CREATE TABLE crossing_rests (
    geofence_id int NOT NULL REFERENCES geofences ON DELETE CASCADE,
    install     int NOT NULL REFERENCES installs ON DELETE CASCADE,
    entered     boolean NOT NULL,
    until       timestamptz NOT NULL,
    PRIMARY KEY (install, geofence_id, entered)
);
CREATE INDEX crossing_rests_until ON crossing_rests (until);
CREATE INDEX crossing_rests_geofence ON crossing_rests (geofence_id);

-- A new fence; null where the app has p_most.
CREATE FUNCTION create_geofence(
    p_now timestamptz, p_app int, p_most int, p_name text, p_bounds text, p_enabled boolean, p_tags text[],
    p_enter text, p_exit text
) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    made int;
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    IF (SELECT count(*) FROM geofences WHERE app_id = p_app) >= p_most THEN
        RETURN NULL;
    END IF;
    INSERT INTO geofences (app_id, name, bounds, enabled, tags, on_enter, on_exit, created_at, updated_at)
        VALUES (p_app, p_name, p_bounds, p_enabled, p_tags, p_enter, p_exit, p_now, p_now) RETURNING id INTO made;
    INSERT INTO geofence_counts (geofence_id) VALUES (made);
    PERFORM note_change(8::smallint, p_app, ARRAY[made]);
    RETURN made;
END $$;

-- Whether there was such a fence. Bits of p_mask: 1 name, 2 bounds, 4 enabled, 8 tags, 16 on_enter, 32 on_exit.
CREATE FUNCTION change_geofence(
    p_now timestamptz, p_app int, p_id int, p_mask int, p_name text, p_bounds text, p_enabled boolean, p_tags text[],
    p_enter text, p_exit text
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE geofences SET
        name = CASE WHEN p_mask & 1 <> 0 THEN p_name ELSE name END,
        bounds = CASE WHEN p_mask & 2 <> 0 THEN p_bounds ELSE bounds END,
        enabled = CASE WHEN p_mask & 4 <> 0 THEN p_enabled ELSE enabled END,
        tags = CASE WHEN p_mask & 8 <> 0 THEN p_tags ELSE tags END,
        on_enter = CASE WHEN p_mask & 16 <> 0 THEN p_enter ELSE on_enter END,
        on_exit = CASE WHEN p_mask & 32 <> 0 THEN p_exit ELSE on_exit END,
        revision = revision + 1, updated_at = p_now
        WHERE app_id = p_app AND id = p_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM note_change(8::smallint, p_app, ARRAY[p_id]);
    RETURN true;
END $$;

CREATE FUNCTION delete_geofence(p_app int, p_id int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM geofences WHERE app_id = p_app AND id = p_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM note_change(8::smallint, p_app, ARRAY[p_id]);
    RETURN true;
END $$;

-- Tells the readers of the feed where the devices of these installs are, or that it was forgotten (revision 0).
CREATE FUNCTION note_locations(p_installs int[]) RETURNS void LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
BEGIN
    PERFORM note_change(9::smallint, d.app_id, array_agg(d.id), array_agg(coalesce(l.revision, 0)))
        FROM unnest(p_installs) AS n (install)
        -- OFFSET keeps the order of the joins: without statistics all devices would be read for each install.
        CROSS JOIN LATERAL (SELECT d.id, d.app_id FROM devices d
            WHERE d.install = n.install AND d.deleted_at IS NULL OFFSET 0) d
        LEFT JOIN install_locations l ON l.install = n.install
        GROUP BY d.app_id;
END $$;

-- The same of devices that are new on installs whose place is known.
CREATE FUNCTION note_located(p_apps int[], p_devices int[]) RETURNS void LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
BEGIN
    IF EXISTS (SELECT FROM install_locations l WHERE l.app_id = ANY (p_apps)) THEN
        PERFORM note_change(9::smallint, d.app_id, array_agg(d.id), array_agg(l.revision))
            FROM unnest(p_devices) AS n (id)
            CROSS JOIN LATERAL (SELECT d.* FROM devices d WHERE d.id = n.id OFFSET 0) d
            CROSS JOIN LATERAL (SELECT l.* FROM install_locations l WHERE l.install = d.install OFFSET 0) l
            GROUP BY d.app_id;
    END IF;
END $$;

-- Writes where installs are, each named by one of its devices; of several reports of one install the latest counts, and
-- none that is older than what is known. A device has to be of the install that is named with it (null: of any). n: the rows of the reports, once for each; kept: whether it is what is known now.
-- Of the kept: the install, its devices, its new revision, and where it was before (null: unknown).
CREATE FUNCTION put_locations(
    p_now timestamptz, p_app int[], p_device int[], p_name text[], p_latitude int[], p_longitude int[], p_accuracy real[],
    p_at timestamptz[]
) RETURNS TABLE (
    n int, kept boolean, install int, revision int, devices int[], old_latitude int, old_longitude int
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
#variable_conflict use_column
DECLARE
    homes int[];
    old_lat int[];
    old_lon int[];
    won int[];
BEGIN
    SELECT array_agg(coalesce(d.install, 0) ORDER BY r.row) INTO homes
        FROM unnest(p_app, p_device, p_name) WITH ORDINALITY AS r (app, device, name, row)
        LEFT JOIN devices d ON d.id = r.device AND d.app_id = r.app AND d.deleted_at IS NULL
            AND (r.name IS NULL OR r.name = (SELECT i.name FROM installs i WHERE i.id = d.install));
    -- Whoever deletes an install meanwhile waits for us, or we see that it is gone.
    PERFORM 1 FROM (SELECT i.id FROM (SELECT DISTINCT h FROM unnest(homes) h) s JOIN installs i ON i.id = s.h
        ORDER BY i.id FOR KEY SHARE OF i) i;
    PERFORM 1 FROM (SELECT l.install FROM (SELECT DISTINCT h FROM unnest(homes) h) s
        JOIN install_locations l ON l.install = s.h ORDER BY l.install FOR UPDATE OF l) l;
    -- By row of the reports from here on: joins of arrays would take the square of their length.
    SELECT array_agg(coalesce(i.id, 0) ORDER BY r.row), array_agg(l.latitude ORDER BY r.row),
            array_agg(l.longitude ORDER BY r.row)
        INTO homes, old_lat, old_lon
        FROM unnest(homes) WITH ORDINALITY AS r (home, row)
        LEFT JOIN installs i ON i.id = r.home LEFT JOIN install_locations l ON l.install = r.home;
    WITH latest AS (
        SELECT DISTINCT ON (r.home) r.home, r.app, r.latitude, r.longitude, r.accuracy, r.at
        FROM unnest(homes, p_app, p_latitude, p_longitude, p_accuracy, p_at)
            WITH ORDINALITY AS r (home, app, latitude, longitude, accuracy, at, row)
        WHERE r.home <> 0 ORDER BY r.home, r.at DESC, r.row DESC
    ), written AS (
        INSERT INTO install_locations AS l (install, app_id, revision, latitude, longitude, accuracy, at)
        SELECT s.home, s.app, extract(epoch FROM p_now)::bigint - 1577836800, s.latitude, s.longitude, s.accuracy, s.at
            FROM latest s ORDER BY s.home
        ON CONFLICT ON CONSTRAINT install_locations_pkey DO UPDATE SET
            revision = greatest(l.revision + 1, excluded.revision), latitude = excluded.latitude,
            longitude = excluded.longitude, accuracy = excluded.accuracy, at = excluded.at
            WHERE l.at <= excluded.at
        RETURNING l.install
    )
    SELECT coalesce(array_agg(w.install), '{}') INTO won FROM written w;
    PERFORM note_locations(won);
    RETURN QUERY
        SELECT r.row::int, coalesce(l.at = r.at AND l.latitude = r.latitude AND l.longitude = r.longitude, false), r.home,
            l.revision, ARRAY(SELECT d.id FROM devices d WHERE d.install = r.home AND d.deleted_at IS NULL ORDER BY d.id),
            r.lat, r.lon
        FROM unnest(homes, p_latitude, p_longitude, p_at, old_lat, old_lon)
            WITH ORDINALITY AS r (home, latitude, longitude, at, lat, lon, row)
        LEFT JOIN install_locations l ON l.install = r.home
        ORDER BY r.row;
END $$;

-- Forgets where installs are: of a device that is named, or at most p_limit that were last seen before a time.
CREATE FUNCTION forget_locations(p_app int, p_device int, p_before timestamptz, p_limit int) RETURNS int[]
LANGUAGE plpgsql AS $$
DECLARE
    gone int[];
BEGIN
    IF p_device IS NOT NULL THEN
        SELECT ARRAY[d.install] INTO gone FROM devices d
            WHERE d.id = p_device AND d.app_id = p_app AND d.deleted_at IS NULL;
    ELSE
        SELECT array_agg(l.install) INTO gone FROM (
            SELECT l.install FROM install_locations l WHERE l.at < p_before ORDER BY l.at LIMIT p_limit FOR UPDATE SKIP LOCKED) l;
    END IF;
    DELETE FROM install_locations WHERE install = ANY (gone);
    IF p_device IS NOT NULL THEN
        -- After the locations, as a report locks them and the deletion of an install does.
        DELETE FROM crossing_rests WHERE install = ANY (gone);
    END IF;
    PERFORM note_locations(gone);
    RETURN coalesce(ARRAY(SELECT d.id FROM devices d WHERE d.install = ANY (gone) AND d.deleted_at IS NULL), '{}');
END $$;

-- Counts crossings and notes those that are to be sent; how many these are, by app. c_rest: seconds between two sends to one
-- install for this fence, null: nothing is sent.
CREATE FUNCTION record_crossings(
    p_now timestamptz, c_app int[], c_geofence int[], c_install int[], c_entered boolean[], c_rest int[]
) RETURNS TABLE (app int, due int) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
#variable_conflict use_column
BEGIN
    -- In the order in which a deletion locks: the fences, then their counts.
    PERFORM 1 FROM (SELECT DISTINCT f FROM unnest(c_geofence) f) s JOIN geofences g ON g.id = s.f
        ORDER BY g.id FOR KEY SHARE OF g;
    PERFORM 1 FROM (SELECT DISTINCT f FROM unnest(c_geofence) f) s JOIN geofence_counts k ON k.geofence_id = s.f
        ORDER BY k.geofence_id FOR UPDATE OF k;
    UPDATE geofence_counts k SET entered = k.entered + s.entered, left_ = k.left_ + s.gone,
            last_entered_at = CASE WHEN s.entered > 0 THEN p_now ELSE k.last_entered_at END
        FROM (SELECT c.geofence, count(*) FILTER (WHERE c.entered) AS entered, count(*) FILTER (WHERE NOT c.entered) AS gone
              FROM unnest(c_geofence, c_entered) AS c (geofence, entered) GROUP BY 1) s
        WHERE k.geofence_id = s.geofence;
    RETURN QUERY WITH wanted AS (
        SELECT c.app, c.geofence, c.install, c.entered, c.rest
        FROM unnest(c_app, c_geofence, c_install, c_entered, c_rest) AS c (app, geofence, install, entered, rest)
        JOIN geofences g ON g.id = c.geofence AND g.enabled
        WHERE c.rest IS NOT NULL
    ), rested AS (
        INSERT INTO crossing_rests AS r (geofence_id, install, entered, until)
        SELECT w.geofence, w.install, w.entered, p_now + make_interval(secs => w.rest) FROM wanted w
            WHERE w.rest > 0 ORDER BY w.install, w.geofence, w.entered
        ON CONFLICT ON CONSTRAINT crossing_rests_pkey DO UPDATE SET until = excluded.until WHERE r.until <= p_now
        RETURNING r.geofence_id, r.install, r.entered
    ), due AS (
        INSERT INTO crossings (app_id, geofence_id, install, entered, at)
        SELECT w.app, w.geofence, w.install, w.entered, p_now FROM wanted w WHERE w.rest = 0
        UNION ALL
        SELECT (SELECT g.app_id FROM geofences g WHERE g.id = r.geofence_id), r.geofence_id, r.install, r.entered, p_now
            FROM rested r
        RETURNING app_id
    )
    SELECT due.app_id, count(*)::int FROM due GROUP BY 1;
END $$;

-- Takes crossings to be sent: batches that somebody took and did not finish in time, else new ones, which become batches
-- by fence and direction, with each install once. `devices` are those that are there now.
CREATE FUNCTION take_crossings(p_now timestamptz, p_until timestamptz, p_limit int)
RETURNS TABLE (batch bigint, app_id int, geofence_id int, entered boolean, at timestamptz, count int, devices int[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    taken bigint[];
BEGIN
    SELECT array_agg(c.id) INTO taken FROM (
        SELECT c.id FROM crossings c WHERE c.batch IS NULL ORDER BY c.id LIMIT p_limit FOR UPDATE SKIP LOCKED) c;
    UPDATE crossings c SET batch = s.first, taken_until = p_until
        FROM (SELECT n.id, min(n.id) OVER (PARTITION BY n.geofence_id, n.entered, n.time) AS first
              FROM (SELECT c.*, row_number() OVER (PARTITION BY c.geofence_id, c.entered, c.install ORDER BY c.id) AS time
                    FROM crossings c WHERE c.id = ANY (taken)) n) s
        WHERE c.id = s.id;
    SELECT coalesce(taken, '{}') || coalesce(array_agg(c.id), '{}') INTO taken FROM (
        SELECT c.id FROM crossings c WHERE c.batch IS NOT NULL AND c.taken_until < p_now
            AND c.batch IN (SELECT o.batch FROM crossings o WHERE o.batch IS NOT NULL AND o.taken_until < p_now
                ORDER BY o.batch LIMIT 16)
        FOR UPDATE SKIP LOCKED) c;
    UPDATE crossings c SET taken_until = p_until WHERE c.id = ANY (taken) AND c.taken_until < p_now;
    RETURN QUERY SELECT c.batch, min(c.app_id), min(c.geofence_id), bool_and(c.entered), min(c.at), count(DISTINCT c.id)::int,
            coalesce(array_agg(d.id ORDER BY d.id) FILTER (WHERE d.id IS NOT NULL), '{}')
        FROM crossings c LEFT JOIN devices d ON d.install = c.install AND d.deleted_at IS NULL
        WHERE c.id = ANY (taken) GROUP BY c.batch ORDER BY c.batch;
END $$;

-- Deletes rests that are over, crossings that are too old to be sent, and what belongs to apps that are gone; how many
-- crossings were too old, and whether there may be more to delete. At most so many rows of each.
CREATE FUNCTION sweep_places(p_now timestamptz, p_crossings timestamptz, p_limit int, OUT late int, OUT more boolean)
LANGUAGE plpgsql AS $$
DECLARE
    deleted int;
BEGIN
    -- What somebody works on now waits for the next time, so that a sweep is in nobody's way.
    DELETE FROM crossing_rests WHERE ctid = ANY (ARRAY(SELECT r.ctid FROM crossing_rests r
        WHERE r.until < p_now LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    more := deleted = p_limit;
    DELETE FROM crossings WHERE id = ANY (ARRAY(SELECT c.id FROM crossings c
        WHERE c.at < p_crossings ORDER BY c.id LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS late = ROW_COUNT;
    more := more OR late = p_limit;
    DELETE FROM install_locations WHERE install = ANY (ARRAY(SELECT l.install FROM apps a
        JOIN install_locations l ON l.app_id = a.id WHERE a.deleted_at IS NOT NULL LIMIT p_limit
        FOR UPDATE OF l SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    more := more OR deleted = p_limit;
    DELETE FROM geofences WHERE id = ANY (ARRAY(SELECT g.id FROM apps a
        JOIN geofences g ON g.app_id = a.id WHERE a.deleted_at IS NOT NULL LIMIT p_limit FOR UPDATE OF g SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    more := more OR deleted = p_limit;
END $$;
