-- Users and devices are written in sets: look up what exists, insert what is missing, then change what differs.
-- Nested loops with an index look-up per given row are always right here: planned once, before there are statistics. Any
-- other plan (a table that is thought to be small, read whole for every row) takes a second where these take 10 ms.

-- Ids of users by external id, created where missing; `created` says which.
CREATE FUNCTION users_of(p_now timestamptz, p_apps int[], p_external text[], OUT ids int[], OUT created int[])
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    missing record;
    known int[];
BEGIN
    created := '{}';
    SELECT coalesce(array_agg(coalesce(u.id, 0) ORDER BY n.row), '{}') INTO known
        FROM unnest(p_apps, p_external) WITH ORDINALITY AS n (app, external, row)
        LEFT JOIN users u ON u.app_id = n.app AND u.external_id = n.external AND u.deleted_at IS NULL;
    ids := known;
    IF 0 <> ALL (known) THEN
        RETURN;
    END IF;
    FOR missing IN
        SELECT n.app, count(*)::int AS count FROM unnest(p_apps, known) AS n (app, id) WHERE n.id = 0 GROUP BY 1 ORDER BY 1
    LOOP
        created := created || allocate_ids(2::smallint, missing.app, missing.count);
    END LOOP;
    SELECT array_agg(CASE n.id WHEN 0 THEN created[n.place] ELSE n.id END ORDER BY n.row) INTO ids
        FROM (SELECT n.id, n.row, row_number() OVER (PARTITION BY n.id = 0 ORDER BY n.app, n.row) AS place
              FROM unnest(p_apps, known) WITH ORDINALITY AS n (app, id, row)) n;
    INSERT INTO users (id, app_id, external_id, created_at)
        SELECT n.id, n.app, n.external, p_now
        FROM unnest(known, ids, p_apps, p_external) AS n (known, id, app, external) WHERE n.known = 0;
END $$;

-- Writes users, each given once. Bits of p_mask: 1 email, 2 tags, 4 attributes, 8 quiet hours.
CREATE FUNCTION put_users(
    p_now timestamptz, p_apps int[], p_external text[], p_mask int[], p_email text[], p_tags text[], p_attributes text[],
    p_quiet int[],
    OUT ids int[], OUT images user_columns
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    changed int[];
    created int[];
BEGIN
    PERFORM lock_apps(p_apps);
    SELECT u.ids, u.created INTO ids, created FROM users_of(p_now, p_apps, p_external) u;
    WITH given AS (
        SELECT n.id, n.mask, n.email, nullif(n.tags::int[], '{}') AS tags, n.attributes, n.quiet
        FROM unnest(ids, p_mask, p_email, p_tags, p_attributes, p_quiet) AS n (id, mask, email, tags, attributes, quiet)
        WHERE n.mask <> 0
    ), written AS (
        UPDATE users u SET
            email = CASE WHEN g.mask & 1 <> 0 THEN g.email ELSE u.email END,
            tags = CASE WHEN g.mask & 2 <> 0 THEN g.tags ELSE u.tags END,
            attributes = CASE WHEN g.mask & 4 <> 0 THEN g.attributes ELSE u.attributes END,
            quiet = CASE WHEN g.mask & 8 <> 0 THEN g.quiet ELSE u.quiet END,
            revision = u.revision + CASE WHEN (g.mask & 1 <> 0 AND g.email IS DISTINCT FROM u.email)
                OR (g.mask & 2 <> 0 AND g.tags IS DISTINCT FROM u.tags)
                OR (g.mask & 4 <> 0 AND g.attributes IS DISTINCT FROM u.attributes)
                OR (g.mask & 8 <> 0 AND g.quiet IS DISTINCT FROM u.quiet) THEN 1 ELSE 0 END
        FROM given g JOIN users old ON old.id = g.id
        WHERE u.id = g.id
        RETURNING u.id, u.revision <> old.revision AS moved
    )
    SELECT array_agg(c.id) INTO changed
        FROM (SELECT w.id FROM written w WHERE w.moved UNION SELECT n.id FROM unnest(created) AS n (id)) c;
    images := changed_users(changed);
END $$;

-- Registers addresses. Installs, devices and claimed addresses are each given once, folded in order by the caller.
--   u_*: the users that are named. i_*: installs; i_user is a row of u_* (null: nobody); bits of i_mask say which fields are
--   set: 1 user, 2 platform, 4 tags, 8 locale, 16 time zone, 32 app version, 64 push enabled, 128 in-app consent, 512 OS
--   version, 1024 country, 2048 alias; 256: an address comes along, and registered_at of its device says when the install was
--   seen. i_profile is the profile of the fields that are set, and no others.
--   d_*: devices; d_install is a row of i_*; d_route 0: no bundle was named; d_token null: no address was named, d_lost: it
--   went to another device of this call; d_shape null: none was named, and the shape of d_route is the empty one. c_*: every
--   address named, and the row of d_* that has it in the end (0: none).
--   A column that says nothing may be empty: i_user, those of attributes, d_lost, d_shape.
--   p_badges_later: what is counted for devices whose user is another one now is left to the caller, who clears it of `moved`
--   as the last thing in its transaction.
CREATE FUNCTION register_devices(
    p_now timestamptz, u_app int[], u_external text[],
    i_app int[], i_name text[], i_mask int[], i_user int[], i_tags text[], i_profile int[], i_alias text[],
    i_push boolean[], i_consent boolean[],
    d_install int[], d_kind smallint[], d_environment smallint[], d_route int[], d_token bytea[], d_address uuid[],
    d_lost boolean[], d_shape text[], c_address uuid[], c_device int[],
    p_badges_later boolean, OUT ids int[], OUT images device_columns, OUT users user_columns, OUT moved int[]
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    u_ids int[];
    u_created int[] := '{}';
    i_ids int[];
    i_old int[];
    i_written int[];
    d_old int[];
    touched int[];
    revisions int[];
    owners int[];
    seen_first int;
    v_now int := floor(extract(epoch FROM p_now));
    changed int[];
    fresh int[] := '{}';
    missing record;
BEGIN
    PERFORM lock_apps(i_app);
    IF cardinality(u_app) > 0 THEN
        SELECT u.ids, u.created INTO u_ids, u_created FROM users_of(p_now, u_app, u_external) u;
    END IF;

    -- Installs.
    SELECT array_agg(coalesce(i.id, 0) ORDER BY n.row) INTO i_old
        FROM unnest(i_app, i_name) WITH ORDINALITY AS n (app, name, row)
        LEFT JOIN installs i ON i.app_id = n.app AND i.name = n.name;
    SELECT array_agg(CASE n.id WHEN 0 THEN nextval('installs_id_seq')::int ELSE n.id END ORDER BY n.row) INTO i_ids
        FROM unnest(i_old) WITH ORDINALITY AS n (id, row);
    INSERT INTO installs (id, app_id, name, user_id, tags, profile_id, alias, push_enabled, in_app_consent, created_at,
            last_seen_at)
        SELECT n.id, n.app, n.name, u_ids[n.usr], nullif(n.tags::int[], '{}'), coalesce(n.profile, 0), n.alias,
            coalesce(n.push, true), coalesce(n.consent, true), p_now, p_now
        FROM unnest(i_ids, i_old, i_app, i_name, i_user, i_tags, i_profile, i_alias, i_push, i_consent)
            AS n (id, old, app, name, usr, tags, profile, alias, push, consent)
        WHERE n.old = 0;

    -- Lock what may change, in the order of ids, and remember its revisions.
    WITH near AS (
        SELECT d.id FROM unnest(i_old) AS n (id) JOIN devices d ON d.install = n.id AND d.deleted_at IS NULL
        UNION
        SELECT d.id FROM unnest(c_address) AS c (address) JOIN devices d ON d.address = c.address
    )
    SELECT coalesce(array_agg(near.id ORDER BY near.id), '{}') INTO touched FROM near;
    IF cardinality(touched) > 0 THEN
        SELECT array_agg(d.revision ORDER BY d.id), array_agg(d.id ORDER BY d.id), min(d.last_seen),
                array_agg(d.user_id ORDER BY d.id)
            INTO revisions, touched, seen_first, owners
            FROM (SELECT d.id, d.revision, d.last_seen, d.user_id FROM unnest(touched) AS n (id) JOIN devices d ON d.id = n.id
                  ORDER BY d.id FOR UPDATE OF d) d;
    END IF;

    IF 0 < ANY (i_old) THEN
        IF EXISTS (SELECT FROM listeners) THEN
            PERFORM note_switched(p_now, i_old, i_mask, i_push);
        END IF;
        -- Where nothing differs, the address that came along says when the install was seen: one row less to write.
        WITH written AS (
            UPDATE installs i SET
                user_id = CASE WHEN n.mask & 1 <> 0 THEN u_ids[n.usr] ELSE i.user_id END,
                tags = CASE WHEN n.mask & 4 <> 0 THEN nullif(n.tags::int[], '{}') ELSE i.tags END,
                profile_id = CASE WHEN n.mask & 1594 <> 0 AND i.profile_id <> coalesce(n.profile, 0)
                    THEN profile_with(i.app_id, i.profile_id, coalesce(n.profile, 0), n.mask) ELSE i.profile_id END,
                alias = CASE WHEN n.mask & 2048 <> 0 THEN n.alias ELSE i.alias END,
                push_enabled = CASE WHEN n.mask & 64 <> 0 THEN n.push ELSE i.push_enabled END,
                in_app_consent = CASE WHEN n.mask & 128 <> 0 THEN n.consent ELSE i.in_app_consent END,
                last_seen_at = p_now
            FROM unnest(i_old, i_mask, i_user, i_tags, i_profile, i_alias, i_push, i_consent)
                AS n (id, mask, usr, tags, profile, alias, push, consent)
            WHERE i.id = n.id AND (n.mask & 256 = 0
                OR (n.mask & 1 <> 0 AND i.user_id IS DISTINCT FROM u_ids[n.usr])
                OR (n.mask & 4 <> 0 AND i.tags IS DISTINCT FROM nullif(n.tags::int[], '{}'))
                OR (n.mask & 1594 <> 0 AND i.profile_id <> coalesce(n.profile, 0)
                    AND profile_with(i.app_id, i.profile_id, coalesce(n.profile, 0), n.mask) <> i.profile_id)
                OR (n.mask & 2048 <> 0 AND i.alias IS DISTINCT FROM n.alias)
                OR (n.mask & 64 <> 0 AND i.push_enabled <> n.push)
                OR (n.mask & 128 <> 0 AND i.in_app_consent <> n.consent))
            RETURNING i.id
        )
        SELECT array_agg(written.id) INTO i_written FROM written;
    END IF;

    -- Devices: which exist, and ids for those that do not.
    SELECT array_agg(coalesce(d.id, 0) ORDER BY n.row) INTO d_old
        FROM unnest(d_install, d_kind) WITH ORDINALITY AS n (install, kind, row)
        LEFT JOIN devices d ON d.install = i_ids[n.install] AND d.kind = n.kind AND d.deleted_at IS NULL;
    ids := d_old;

    IF cardinality(touched) > 0 THEN
        -- Whoever has an address that was named loses it, unless it is his in the end.
        UPDATE devices d SET token = NULL, address = NULL, flags = d.flags & ~5, revision = d.revision + 1,
            retired_at = NULL, retired_reason = NULL, retired_by = NULL
        FROM unnest(c_address, c_device) AS c (address, device)
        WHERE d.address = c.address AND d.id <> coalesce(d_old[nullif(c.device, 0)], 0);
        -- Addresses of devices that exist. One that is named again un-retires, and counts as registered now.
        UPDATE devices d SET
            route_id = CASE WHEN n.route = d.route_id THEN n.route
                ELSE route_after(d.route_id, n.route, n.environment, n.shape) END,
            token = CASE WHEN n.lost THEN NULL ELSE coalesce(n.token, d.token) END,
            address = CASE WHEN n.lost THEN NULL ELSE coalesce(n.address, d.address) END,
            flags = CASE WHEN n.lost THEN d.flags & ~5 WHEN n.token IS NULL THEN d.flags ELSE (d.flags & ~4) | 1 END,
            revision = d.revision + CASE
                WHEN (n.route <> d.route_id AND route_after(d.route_id, n.route, n.environment, n.shape) <> d.route_id)
                OR d.flags & 4 <> 0 OR (n.lost AND d.token IS NOT NULL) OR coalesce(n.token <> d.token, n.token IS NOT NULL)
                OR (n.token IS NOT NULL AND v_now - d.last_seen >= 3600) THEN 1 ELSE 0 END,
            last_seen = CASE WHEN n.token IS NOT NULL AND v_now - d.last_seen >= 3600 THEN v_now ELSE d.last_seen END,
            registered_at = CASE WHEN n.token IS NULL THEN d.registered_at ELSE p_now END,
            retired_at = NULL, retired_reason = NULL, retired_by = NULL
        FROM unnest(d_old, d_environment, d_route, d_token, d_address, d_lost, d_shape)
            AS n (id, environment, route, token, address, lost, shape)
        WHERE d.id = n.id AND (n.token IS NOT NULL OR n.lost
            OR (d.flags & 1 = 0 AND n.route <> d.route_id
                AND route_after(d.route_id, n.route, n.environment, n.shape) <> d.route_id));
        -- What is the install's shows in the images of all its devices.
        UPDATE devices d SET user_id = i.user_id, labels = i.tags || i.channels, profile_id = i.profile_id, alias = i.alias,
            last_seen = CASE WHEN v_now - d.last_seen >= 3600 THEN v_now ELSE d.last_seen END,
            flags = (d.flags & ~18) + CASE WHEN i.push_enabled THEN 2 ELSE 0 END + CASE WHEN i.in_app_consent THEN 0 ELSE 16 END,
            revision = d.revision + 1
        FROM unnest(CASE WHEN v_now - seen_first >= 3600 THEN i_old ELSE i_written END) AS n (id)
            JOIN installs i ON i.id = n.id
        WHERE d.install = n.id AND d.deleted_at IS NULL AND (d.user_id IS DISTINCT FROM i.user_id
            OR d.labels IS DISTINCT FROM i.tags || i.channels OR d.profile_id <> i.profile_id
            OR d.alias IS DISTINCT FROM i.alias OR v_now - d.last_seen >= 3600 OR (d.flags & 2 <> 0) <> i.push_enabled
            OR (d.flags & 16 = 0) <> i.in_app_consent);
    END IF;

    IF 0 = ANY (d_old) THEN
        FOR missing IN
            SELECT i_app[n.install] AS app, count(*)::int AS count
            FROM unnest(d_install, d_old) AS n (install, id) WHERE n.id = 0 GROUP BY 1 ORDER BY 1
        LOOP
            fresh := fresh || allocate_ids(1::smallint, missing.app, missing.count);
        END LOOP;
        SELECT array_agg(CASE n.id WHEN 0 THEN fresh[n.place] ELSE n.id END ORDER BY n.row) INTO ids
            FROM (SELECT n.id, n.row, row_number() OVER (PARTITION BY n.id = 0 ORDER BY i_app[n.install], n.row) AS place
                  FROM unnest(d_install, d_old) WITH ORDINALITY AS n (install, id, row)) n;
        INSERT INTO devices (id, app_id, install, kind, route_id, user_id, flags, token, labels, profile_id, alias,
                first_seen, last_seen, address, registered_at)
            SELECT n.id, i.app_id, i.id, n.kind,
                CASE WHEN n.route <> 0 THEN n.route ELSE route_of(i.app_id, n.kind, n.environment, coalesce((
                    SELECT r.bundle FROM devices s JOIN routes r ON r.id = s.route_id
                    WHERE s.install = i.id AND s.deleted_at IS NULL ORDER BY s.id LIMIT 1), ''),
                    coalesce(n.shape, '')) END,
                i.user_id,
                CASE WHEN n.token IS NOT NULL AND n.lost IS NOT TRUE THEN 1 ELSE 0 END + CASE WHEN i.push_enabled THEN 2 ELSE 0 END
                    + CASE WHEN i.in_app_consent THEN 0 ELSE 16 END,
                CASE WHEN n.lost IS NOT TRUE THEN n.token END, i.tags || i.channels, i.profile_id, i.alias,
                floor(extract(epoch FROM i.created_at)), v_now,
                CASE WHEN n.lost IS NOT TRUE THEN n.address END, p_now
            FROM unnest(ids, d_old, d_install, d_kind, d_environment, d_route, d_token, d_address, d_lost, d_shape)
                AS n (id, old, install, kind, environment, route, token, address, lost, shape)
            JOIN installs i ON i.id = i_ids[n.install]
            WHERE n.old = 0;
    END IF;

    IF cardinality(fresh) > 0 THEN
        PERFORM note_located(i_app, fresh);
        IF EXISTS (SELECT FROM listeners) THEN
            PERFORM note_registered(p_now, fresh);
        END IF;
    END IF;
    SELECT coalesce(array_agg(d.id), '{}') || fresh INTO changed
        FROM unnest(touched, revisions) AS n (id, revision) JOIN devices d ON d.id = n.id AND d.revision <> n.revision;
    images := changed_devices(changed);
    users := changed_users(u_created);
    IF cardinality(touched) > 0 AND EXISTS (SELECT FROM badge_apps b WHERE b.app_id = ANY (i_app)) THEN
        moved := badges_of_moved(p_now, touched, owners, NOT p_badges_later);
    END IF;
END $$;

-- Deletes devices: tombstones stay for the readers of the feed, and an install without devices goes.
CREATE FUNCTION delete_devices(p_now timestamptz, p_app int, p_ids int[], OUT images device_columns) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    gone int[];
    homes int[];
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    PERFORM d.id FROM unnest(p_ids) AS n (id) JOIN devices d ON d.id = n.id ORDER BY d.id FOR UPDATE OF d;
    WITH dead AS (
        UPDATE devices d SET flags = 8, revision = d.revision + 1, token = NULL, address = NULL, user_id = NULL, labels = NULL,
            profile_id = 0, alias = NULL, retired_at = NULL, retired_reason = NULL, retired_by = NULL, deleted_at = p_now
        FROM unnest(p_ids) AS n (id)
        WHERE d.id = n.id AND d.app_id = p_app AND d.deleted_at IS NULL
        RETURNING d.id, d.install
    )
    SELECT coalesce(array_agg(id), '{}'), array_agg(DISTINCT install) INTO gone, homes FROM dead;
    WITH empty AS (
        DELETE FROM installs i USING unnest(homes) AS n (id) WHERE i.id = n.id
            AND NOT EXISTS (SELECT FROM devices d WHERE d.install = i.id AND d.deleted_at IS NULL)
        RETURNING i.id
    )
    SELECT coalesce(array_agg(-empty.id), '{}') INTO homes FROM empty;
    PERFORM forget_recipients(homes);
    images := changed_devices(gone);
    PERFORM set_badges(p_now, p_app, gone, 0);
END $$;

-- Says when an install ends; null: never. Whether there is such an install.
CREATE FUNCTION set_expiration(p_app int, p_install text, p_at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    UPDATE installs SET expires_at = p_at WHERE app_id = p_app AND name = p_install;
    RETURN FOUND;
END $$;

-- Deletes installs of an app that are over, at most so many, with all their devices. Whoever says of one at this moment that it goes on is
-- waited for, or finds it gone: they are looked for under the lock that he takes.
CREATE FUNCTION delete_expired(p_now timestamptz, p_app int, p_limit int, OUT images device_columns) LANGUAGE plpgsql AS $$
DECLARE
    over int[];
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    over := ARRAY(SELECT d.id FROM (
            SELECT i.id FROM installs i WHERE i.app_id = p_app AND i.expires_at <= p_now
                AND EXISTS (SELECT FROM devices k WHERE k.install = i.id AND k.deleted_at IS NULL) LIMIT p_limit) i
        JOIN devices d ON d.install = i.id AND d.deleted_at IS NULL);
    images := delete_devices(p_now, p_app, over);
END $$;

-- Takes the addresses of an install away; it stays, with all that is known of it, and can be sent nothing.
CREATE FUNCTION forget_addresses(p_app int, p_install text, OUT images device_columns) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    changed int[];
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    PERFORM d.id FROM installs i JOIN devices d ON d.install = i.id
        WHERE i.app_id = p_app AND i.name = p_install AND d.deleted_at IS NULL ORDER BY d.id FOR UPDATE OF d;
    WITH freed AS (
        UPDATE devices d SET token = NULL, address = NULL, flags = d.flags & ~5, revision = d.revision + 1,
            retired_at = NULL, retired_reason = NULL, retired_by = NULL
        FROM installs i
        WHERE i.app_id = p_app AND i.name = p_install AND d.install = i.id AND d.deleted_at IS NULL AND d.token IS NOT NULL
        RETURNING d.id
    )
    SELECT coalesce(array_agg(freed.id), '{}') INTO changed FROM freed;
    images := changed_devices(changed);
END $$;

-- Deletes a user; what was his belongs to nobody.
CREATE FUNCTION delete_user(
    p_now timestamptz, p_app int, p_external text, OUT images user_columns, OUT devices device_columns
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    gone int;
    changed int[];
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    UPDATE users u SET deleted_at = p_now, revision = u.revision + 1, email = NULL, attributes = NULL, tags = NULL,
            channels = NULL, quiet = NULL
        WHERE u.app_id = p_app AND u.external_id = p_external AND u.deleted_at IS NULL RETURNING u.id INTO gone;
    IF gone IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM habits WHERE user_id = gone;
    PERFORM d.id FROM installs i JOIN devices d ON d.install = i.id
        WHERE i.user_id = gone AND d.deleted_at IS NULL ORDER BY d.id FOR UPDATE OF d;
    WITH freed AS (UPDATE installs i SET user_id = NULL WHERE i.user_id = gone RETURNING i.id), theirs AS (
        UPDATE devices d SET user_id = NULL, revision = d.revision + 1 FROM freed
        WHERE d.install = freed.id AND d.deleted_at IS NULL RETURNING d.id
    )
    SELECT coalesce(array_agg(theirs.id), '{}') INTO changed FROM theirs;
    PERFORM forget_recipients(ARRAY[gone]);
    images := changed_users(ARRAY[gone]);
    devices := changed_devices(changed);
    PERFORM set_badges(p_now, p_app, changed, 0);
    PERFORM note_event(p_app, 17, p_now, p_ids => ARRAY[gone]);
END $$;

-- Brings back devices that were retired since a time, at most p_limit of them.
CREATE FUNCTION revive_devices(
    p_app int, p_since timestamptz, p_until timestamptz, p_reason text, p_credential int, p_limit int,
    OUT count int, OUT images device_columns
) LANGUAGE plpgsql AS $$
DECLARE
    revived int[];
BEGIN
    PERFORM lock_apps(ARRAY[p_app]);
    WITH chosen AS (
        SELECT d.id FROM devices d WHERE d.app_id = p_app AND d.retired_at >= p_since AND d.retired_at <= p_until
            AND (p_reason IS NULL OR d.retired_reason = p_reason)
            AND (p_credential IS NULL OR d.retired_by = p_credential)
        ORDER BY d.id LIMIT p_limit FOR UPDATE
    ), back AS (
        UPDATE devices d SET flags = d.flags & ~4, revision = d.revision + 1,
            retired_at = NULL, retired_reason = NULL, retired_by = NULL
        FROM chosen WHERE d.id = chosen.id RETURNING d.id
    )
    SELECT coalesce(array_agg(back.id), '{}') INTO revived FROM back;
    count := cardinality(revived);
    images := changed_devices(revived);
    IF count > 0 THEN
        PERFORM note_event(p_app, 26, now(), p_ids => revived);
    END IF;
END $$;
