-- Badges that pushd counts, by device, where an app's messages ask for it.
--
-- What moves counts is appended as steps, numbered by app without gaps: a step is part of the transaction that sends, and
-- whoever writes one has its app's row to the end of that, so numbers are the order of commits. Steps are folded into counts
-- in the background: what a device has is its count in badge_parts, moved by the steps that are left.
--
-- A row of badge_apps is always the last that a transaction waits for: nobody waits in a circle.

CREATE TABLE badge_apps (
    app_id int PRIMARY KEY,
    -- Of the newest step.
    seq    bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE badge_deltas (
    app_id  int NOT NULL,
    seq     bigint NOT NULL,
    -- Added to each count, or what each is from now on.
    amount  int NOT NULL,
    sets    boolean NOT NULL,
    -- 32-bit ids, most significant byte first, or else a bitmap of one part.
    packed  boolean NOT NULL,
    devices bytea NOT NULL,
    at      timestamptz NOT NULL,
    PRIMARY KEY (app_id, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE badge_deltas ALTER COLUMN devices SET STORAGE EXTERNAL;

-- The folded form, in parts of 2^20 ids: whose count is above 0, and these counts in their order, two bytes each, the least
-- significant first.
CREATE TABLE badge_parts (
    app_id  int NOT NULL,
    part    int NOT NULL,
    devices bytea NOT NULL,
    counts  bytea NOT NULL,
    PRIMARY KEY (app_id, part)
);
ALTER TABLE badge_parts ALTER COLUMN devices SET STORAGE EXTERNAL, ALTER COLUMN counts SET STORAGE EXTERNAL;

-- Appends steps. p_known: of each app, the newest step that the caller knows, null where none. Gives the steps behind that,
-- in their order; those of the caller's own without what is in them.
CREATE FUNCTION count_badges(
    p_now timestamptz, p_apps int[], p_known bigint[],
    r_app int[], r_amount int[], r_sets boolean[], r_packed boolean[], r_devices bytea[]
) RETURNS SETOF badge_deltas LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    WITH raised AS (
        INSERT INTO badge_apps AS b (app_id, seq)
            SELECT r.app, count(*) FROM unnest(r_app) AS r (app) GROUP BY r.app ORDER BY r.app
            ON CONFLICT (app_id) DO UPDATE SET seq = b.seq + excluded.seq
            RETURNING app_id, seq
    )
    INSERT INTO badge_deltas (app_id, seq, amount, sets, packed, devices, at)
        SELECT b.app_id, b.seq - r.count + r.place, r.amount, r.sets, r.packed, r.devices, p_now
        FROM (
            SELECT n.*, row_number() OVER (PARTITION BY n.app ORDER BY n.row) AS place, count(*) OVER (PARTITION BY n.app) AS count
            FROM unnest(r_app, r_amount, r_sets, r_packed, r_devices) WITH ORDINALITY
                AS n (app, amount, sets, packed, devices, row)
        ) r JOIN raised b ON b.app_id = r.app;
    PERFORM note_change(17::smallint, n.app, '{}') FROM unnest(p_apps) AS n (app);
    RETURN QUERY
        SELECT d.app_id, d.seq, d.amount, d.sets, d.packed, CASE WHEN d.seq <= b.seq - own.count THEN d.devices ELSE '' END, d.at
        FROM unnest(p_apps, p_known) AS k (app, known)
            JOIN (SELECT r.app, count(*) FROM unnest(r_app) AS r (app) GROUP BY r.app) own USING (app)
            CROSS JOIN LATERAL (SELECT a.seq FROM badge_apps a WHERE a.app_id = k.app OFFSET 0) b
            CROSS JOIN LATERAL (SELECT * FROM badge_deltas n WHERE n.app_id = k.app AND n.seq > k.known OFFSET 0) d
        ORDER BY d.app_id, d.seq;
END $$;

-- Sets what is counted for devices of an app. Where nothing was ever counted, 0 is what they have.
CREATE FUNCTION set_badges(p_now timestamptz, p_app int, p_ids int[], p_count int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_seq bigint;
BEGIN
    IF cardinality(p_ids) > 0 AND (p_count > 0 OR EXISTS (SELECT FROM badge_apps b WHERE b.app_id = p_app)) THEN
        INSERT INTO badge_apps AS b (app_id, seq) VALUES (p_app, 1)
            ON CONFLICT (app_id) DO UPDATE SET seq = b.seq + 1 RETURNING b.seq INTO v_seq;
        INSERT INTO badge_deltas (app_id, seq, amount, sets, packed, devices, at)
            SELECT p_app, v_seq, p_count, true, true, string_agg(int4send(n.id), '' ORDER BY n.id), p_now FROM unnest(p_ids) AS n (id);
        PERFORM note_change(17::smallint, p_app, '{}');
    END IF;
END $$;

-- Sets what is counted for the devices of a user; how many these are, null where the app has no such user.
CREATE FUNCTION set_badges_of(p_now timestamptz, p_app int, p_external text, p_count int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_user int;
    v_ids int[];
BEGIN
    SELECT u.id INTO v_user FROM users u WHERE u.app_id = p_app AND u.external_id = p_external AND u.deleted_at IS NULL;
    IF v_user IS NOT NULL THEN
        SELECT coalesce(array_agg(d.id), '{}') INTO v_ids FROM installs i JOIN devices d ON d.install = i.id
            WHERE i.user_id = v_user AND d.deleted_at IS NULL;
        PERFORM set_badges(p_now, p_app, v_ids, p_count);
    END IF;
    RETURN cardinality(v_ids);
END $$;

-- What register_devices does for devices whose user is another one now: p_users are whose they were, null of nobody's. Where
-- p_clear is false they are only looked for, and given.
CREATE FUNCTION badges_of_moved(p_now timestamptz, p_ids int[], p_users int[], p_clear boolean) RETURNS int[]
LANGUAGE plpgsql AS $$
DECLARE
    moved record;
    found int[];
BEGIN
    FOR moved IN
        SELECT d.app_id, array_agg(d.id) AS ids FROM unnest(p_ids, p_users) AS n (id, usr) JOIN devices d ON d.id = n.id
        WHERE n.usr IS NOT NULL AND d.user_id IS DISTINCT FROM n.usr GROUP BY d.app_id ORDER BY d.app_id
    LOOP
        IF p_clear THEN
            PERFORM set_badges(p_now, moved.app_id, moved.ids, 0);
        ELSE
            found := found || moved.ids;
        END IF;
    END LOOP;
    RETURN found;
END $$;

-- What take_receipts does for installs that opened or clicked something: arguments as its own, p_installs by rows of i_*,
-- p_taken: the rows of r_* that are new.
CREATE FUNCTION clear_badges_of_openers(
    p_now timestamptz, n_app int[], p_installs int[], r_send int[], r_install int[], r_event smallint[], p_taken int[]
) RETURNS void LANGUAGE plpgsql SET enable_nestloop = on AS $$
DECLARE
    opened record;
BEGIN
    FOR opened IN
        SELECT k.app, array_agg(DISTINCT d.id) AS ids
        FROM (
            SELECT DISTINCT n_app[r.send] AS app, p_installs[r.install] AS install
            FROM unnest(p_taken) AS t (row) JOIN unnest(r_send, r_install, r_event) WITH ORDINALITY
                AS r (send, install, event, row) ON r.row = t.row
            WHERE r.event IN (3, 4)
        ) k CROSS JOIN LATERAL (
            SELECT s.id FROM devices s WHERE s.install = k.install AND s.deleted_at IS NULL OFFSET 0) d
        WHERE k.app = ANY (ARRAY(
            SELECT a.id FROM badge_apps b JOIN apps a ON a.id = b.app_id
            WHERE b.app_id = ANY (n_app) AND (a.settings::json ->> 'open_clears_badge') IS DISTINCT FROM 'false'))
        GROUP BY k.app ORDER BY k.app
    LOOP
        PERFORM set_badges(p_now, opened.app, opened.ids, 0);
    END LOOP;
END $$;
