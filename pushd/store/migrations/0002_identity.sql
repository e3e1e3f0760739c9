-- Who and what can be addressed: id blocks, routes, tags, users, installs, devices.

-- Ids come in blocks that belong to one app, aligned and growing, so that a tenant's bitmaps stay runs.
-- Space 1: devices, 2: users.
CREATE TABLE id_blocks (
    space  smallint NOT NULL,
    start  int NOT NULL,
    size   int NOT NULL,
    app_id int NOT NULL,
    -- The next free id of the block, as a bigint: one past the last block does not fit into an int.
    next   bigint NOT NULL,
    PRIMARY KEY (space, start)
);
CREATE INDEX id_blocks_app ON id_blocks (space, app_id, start);

-- Where the next block of each size is cut: 64s from a 4,096, those from a 65,536. One row per space, one lock.
CREATE TABLE id_frontiers (
    space      smallint PRIMARY KEY,
    next_64    bigint NOT NULL DEFAULT 0,
    end_64     bigint NOT NULL DEFAULT 0,
    next_4096  bigint NOT NULL DEFAULT 0,
    end_4096   bigint NOT NULL DEFAULT 0,
    next_65536 bigint NOT NULL DEFAULT 0
);
INSERT INTO id_frontiers (space) VALUES (1), (2);

CREATE FUNCTION take_block(p_space smallint, p_app int, p_size int) RETURNS id_blocks LANGUAGE plpgsql AS $$
DECLARE
    f id_frontiers;
    taken bigint;
    block id_blocks;
BEGIN
    SELECT * INTO STRICT f FROM id_frontiers WHERE space = p_space FOR UPDATE;
    IF p_size = 65536 OR (f.next_4096 = f.end_4096 AND (p_size = 4096 OR f.next_64 = f.end_64)) THEN
        IF f.next_65536 >= 2147418112 THEN
            RAISE EXCEPTION 'no ids are left in space %', p_space USING ERRCODE = '54000';
        END IF;
        taken := f.next_65536;
        f.next_65536 := f.next_65536 + 65536;
        IF p_size < 65536 THEN
            f.next_4096 := taken;
            f.end_4096 := f.next_65536;
        END IF;
    END IF;
    IF p_size = 4096 OR (p_size = 64 AND f.next_64 = f.end_64) THEN
        taken := f.next_4096;
        f.next_4096 := f.next_4096 + 4096;
        IF p_size = 64 THEN
            f.next_64 := taken;
            f.end_64 := f.next_4096;
        END IF;
    END IF;
    IF p_size = 64 THEN
        taken := f.next_64;
        f.next_64 := f.next_64 + 64;
    END IF;
    UPDATE id_frontiers SET next_64 = f.next_64, end_64 = f.end_64, next_4096 = f.next_4096, end_4096 = f.end_4096,
        next_65536 = f.next_65536 WHERE space = p_space;
    INSERT INTO id_blocks VALUES (p_space, taken, p_size, p_app, greatest(taken, 1)) RETURNING * INTO block;
    RETURN block;
END $$;

-- So many new ids of an app, ascending. The caller holds the app's lock.
CREATE FUNCTION allocate_ids(p_space smallint, p_app int, p_count int) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    ids int[] := '{}';
    wanted int := p_count;
    block id_blocks;
    owned bigint;
    taken int;
BEGIN
    WHILE wanted > 0 LOOP
        SELECT * INTO block FROM id_blocks
            WHERE space = p_space AND app_id = p_app AND next < start::bigint + size ORDER BY start LIMIT 1;
        IF NOT FOUND THEN
            SELECT coalesce(sum(size), 0) INTO owned FROM id_blocks WHERE space = p_space AND app_id = p_app;
            block := take_block(p_space, p_app, CASE WHEN owned = 0 THEN 64 WHEN owned < 65536 THEN 4096 ELSE 65536 END);
        END IF;
        taken := least(wanted, block.start::bigint + block.size - block.next);
        ids := ids || ARRAY(SELECT generate_series(block.next, block.next + taken - 1)::int);
        UPDATE id_blocks SET next = block.next + taken WHERE space = p_space AND start = block.start;
        wanted := wanted - taken;
    END LOOP;
    RETURN ids;
END $$;

-- Writers of one app's users, installs and devices take turns: look-up and insert are then one step. Class 7001.
-- Nothing is written for an app that is gone.
CREATE FUNCTION lock_apps(p_apps int[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    app int;
BEGIN
    FOR app IN SELECT DISTINCT a FROM unnest(p_apps) a ORDER BY a LOOP
        PERFORM pg_advisory_xact_lock(7001, app);
        PERFORM 1 FROM apps WHERE id = app AND deleted_at IS NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no app %', app USING ERRCODE = 'PD404';
        END IF;
    END LOOP;
END $$;

CREATE TABLE routes (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id      int NOT NULL,
    -- The number of the kind, and of the environment: 0 production, 1 sandbox.
    kind        smallint NOT NULL,
    environment smallint NOT NULL,
    bundle      text COLLATE "C" NOT NULL,
    -- Whose payloads its devices read; empty: pushd's own.
    shape       text COLLATE "C" NOT NULL DEFAULT '',
    UNIQUE (app_id, kind, environment, bundle, shape)
);

-- Look up, then insert: an upsert would burn an id each time.
CREATE FUNCTION route_of(p_app int, p_kind smallint, p_environment smallint, p_bundle text, p_shape text) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    found_id int;
BEGIN
    LOOP
        SELECT id INTO found_id FROM routes
            WHERE app_id = p_app AND kind = p_kind AND environment = p_environment AND bundle = p_bundle
                AND shape = p_shape;
        IF FOUND THEN
            RETURN found_id;
        END IF;
        INSERT INTO routes (app_id, kind, environment, bundle, shape)
            VALUES (p_app, p_kind, p_environment, p_bundle, p_shape) ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- The route of a device that had one before: with the bundle of the one that was named (0: none was), and the shape that was
-- (null: none was), else those that it had.
CREATE FUNCTION route_after(p_before int, p_named int, p_environment smallint, p_shape text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    r routes;
    n routes;
BEGIN
    IF p_named <> 0 AND p_shape IS NOT NULL THEN
        RETURN p_named;
    END IF;
    SELECT * INTO STRICT r FROM routes WHERE id = p_before;
    IF p_named <> 0 THEN
        IF r.shape = '' THEN
            RETURN p_named;
        END IF;
        SELECT * INTO STRICT n FROM routes WHERE id = p_named;
        RETURN route_of(n.app_id, n.kind, n.environment, n.bundle, r.shape);
    END IF;
    RETURN CASE WHEN r.environment = p_environment AND r.shape = coalesce(p_shape, r.shape) THEN p_before
        ELSE route_of(r.app_id, r.kind, p_environment, r.bundle, coalesce(p_shape, r.shape)) END;
END $$;

-- What installs of an app have in common: what they run on, where, and which version. Fields that nobody named are empty.
-- Number 0, which is not in here, has nothing.
CREATE TABLE profiles (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id      int NOT NULL,
    platform    text COLLATE "C" NOT NULL,
    os_version  text COLLATE "C" NOT NULL,
    app_version text COLLATE "C" NOT NULL,
    locale      text COLLATE "C" NOT NULL,
    country     text COLLATE "C" NOT NULL,
    time_zone   text COLLATE "C" NOT NULL,
    UNIQUE (app_id, app_version, os_version, locale, time_zone, country, platform)
);

-- As route_of.
CREATE FUNCTION profile_of(
    p_app int, p_platform text, p_os text, p_version text, p_locale text, p_country text, p_zone text
) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    found_id int;
BEGIN
    IF p_platform || p_os || p_version || p_locale || p_country || p_zone = '' THEN
        RETURN 0;
    END IF;
    LOOP
        SELECT id INTO found_id FROM profiles p WHERE p.app_id = p_app AND p.app_version = p_version
            AND p.os_version = p_os AND p.locale = p_locale AND p.time_zone = p_zone AND p.country = p_country
            AND p.platform = p_platform;
        IF FOUND THEN
            RETURN found_id;
        END IF;
        INSERT INTO profiles (app_id, platform, os_version, app_version, locale, country, time_zone)
            VALUES (p_app, p_platform, p_os, p_version, p_locale, p_country, p_zone) ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- The profile that has the fields of p_new which p_mask names, and the others of p_old. Bits as of register_devices.
CREATE FUNCTION profile_with(p_app int, p_old int, p_new int, p_mask int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    o profiles;
    n profiles;
BEGIN
    IF p_old = p_new OR p_mask & 1594 = 0 THEN
        RETURN p_old;
    ELSIF p_mask & 1594 = 1594 THEN
        RETURN p_new;
    END IF;
    SELECT * INTO o FROM profiles WHERE id = p_old;
    SELECT * INTO n FROM profiles WHERE id = p_new;
    RETURN profile_of(p_app,
        coalesce(CASE WHEN p_mask & 2 <> 0 THEN n.platform ELSE o.platform END, ''),
        coalesce(CASE WHEN p_mask & 512 <> 0 THEN n.os_version ELSE o.os_version END, ''),
        coalesce(CASE WHEN p_mask & 32 <> 0 THEN n.app_version ELSE o.app_version END, ''),
        coalesce(CASE WHEN p_mask & 8 <> 0 THEN n.locale ELSE o.locale END, ''),
        coalesce(CASE WHEN p_mask & 1024 <> 0 THEN n.country ELSE o.country END, ''),
        coalesce(CASE WHEN p_mask & 16 <> 0 THEN n.time_zone ELSE o.time_zone END, ''));
END $$;

-- What devices and users carry lists of: the tags of an app, and its channels.
CREATE TABLE labels (
    id     int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id int NOT NULL,
    -- 0 a tag, 1 a channel
    kind   smallint NOT NULL DEFAULT 0,
    -- Of a tag: as first spelt; two spellings that fold to the same are one tag. Of a channel: nothing, and folded is random.
    name   text NOT NULL DEFAULT '',
    folded text COLLATE "C" NOT NULL,
    UNIQUE (app_id, kind, folded)
);

CREATE FUNCTION tags_of(p_apps int[], p_names text[], p_folded text[])
RETURNS TABLE (id int, app_id int, name text, folded text) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
BEGIN
    INSERT INTO labels AS t (app_id, name, folded)
        SELECT DISTINCT ON (n.app, n.folded) n.app, n.name, n.folded
        FROM unnest(p_apps, p_names, p_folded) AS n (app, name, folded)
        WHERE NOT EXISTS (SELECT FROM labels k WHERE k.app_id = n.app AND k.kind = 0 AND k.folded = n.folded)
        ORDER BY n.app, n.folded
        ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT t.id, t.app_id, t.name, t.folded
        FROM unnest(p_apps, p_folded) AS n (app, folded)
        JOIN labels t ON t.app_id = n.app AND t.kind = 0 AND t.folded = n.folded;
END $$;

CREATE TABLE users (
    id          int PRIMARY KEY,
    app_id      int NOT NULL,
    external_id text COLLATE "C" NOT NULL,
    email       text,
    tags        int[],
    channels    int[],
    attributes  text,
    -- Quiet hours: 1 + 1440 * the minute they begin + the minute they end.
    quiet       int,
    revision    int NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);
CREATE UNIQUE INDEX users_external ON users (app_id, external_id) WHERE deleted_at IS NULL;
-- Who is subscribed to a channel.
CREATE INDEX users_channels ON users USING gin (channels) WHERE channels IS NOT NULL;
CREATE INDEX users_deleted ON users (deleted_at) WHERE deleted_at IS NOT NULL;

-- One installation of an app on one machine. It exists without an address and keeps user, tags and history.
CREATE TABLE installs (
    id             int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    app_id         int NOT NULL,
    name           text COLLATE "C" NOT NULL,
    user_id        int,
    tags           int[],
    channels       int[],
    profile_id     int NOT NULL DEFAULT 0,
    -- Another name, that installs may share.
    alias          text,
    push_enabled   boolean NOT NULL DEFAULT true,
    in_app_consent boolean NOT NULL DEFAULT true,
    created_at     timestamptz NOT NULL DEFAULT now(),
    last_seen_at   timestamptz NOT NULL,
    -- When it goes, with its devices; null: it stays.
    expires_at     timestamptz,
    UNIQUE (app_id, name)
) WITH (fillfactor = 90);
CREATE INDEX installs_expires ON installs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX installs_channels ON installs USING gin (channels) WHERE channels IS NOT NULL;
CREATE INDEX installs_user ON installs (user_id) WHERE user_id IS NOT NULL;

-- One address of an install. The columns up to `last_seen` are the image that the index in memory is a projection of; from
-- user on, but for token and the other bits of flags, they are the install's, repeated here so that an image is one row.
CREATE TABLE devices (
    id             int PRIMARY KEY,
    app_id         int NOT NULL,
    install        int NOT NULL,
    kind           smallint NOT NULL,
    revision       int NOT NULL DEFAULT 1,
    route_id       int NOT NULL,
    user_id        int,
    -- 1 has a token, 2 push enabled, 4 retired, 8 deleted (a tombstone), 16 takes no in-app messages
    flags          smallint NOT NULL,
    token          bytea,
    -- Tags, then channels.
    labels         int[],
    profile_id     int NOT NULL DEFAULT 0,
    alias          text,
    -- Seconds since the epoch. When the install was last seen is kept to the hour, so that not every sight is a change.
    first_seen     int NOT NULL DEFAULT floor(extract(epoch FROM now())),
    last_seen      int NOT NULL DEFAULT floor(extract(epoch FROM now())),
    -- SHA-256 of app, kind, environment and token, cut to 128 bits: tokens can be too long for an index.
    address        uuid,
    registered_at  timestamptz NOT NULL,
    retired_at     timestamptz,
    retired_reason text,
    retired_by     int,
    deleted_at     timestamptz
) WITH (fillfactor = 90);
CREATE UNIQUE INDEX devices_install ON devices (install, kind) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX devices_address ON devices (address) WHERE address IS NOT NULL;
CREATE INDEX devices_retired ON devices (app_id, retired_at) WHERE retired_at IS NOT NULL;
CREATE INDEX devices_deleted ON devices (deleted_at) WHERE deleted_at IS NOT NULL;

-- Images as packed columns: a record per device would cost more than everything else.
CREATE TYPE device_columns AS (
    ids bytea, revisions bytea, routes bytea, users bytea, flags bytea, token_bytes bytea, tokens bytea,
    label_counts bytea, labels bytea, installs bytea, profiles bytea, first_seen bytea, last_seen bytea,
    alias_bytes bytea, aliases bytea
);
CREATE FUNCTION device_images(p_ids int[]) RETURNS device_columns LANGUAGE sql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
    SELECT string_agg(int4send(d.id), ''), string_agg(int4send(d.revision), ''), string_agg(int4send(d.route_id), ''),
        string_agg(int4send(coalesce(d.user_id, 0)), ''), string_agg(int2send(d.flags), ''),
        string_agg(int2send(coalesce(length(d.token), 0)::int2), ''), string_agg(d.token, ''),
        string_agg(int2send(coalesce(cardinality(d.labels), 0)::int2), ''), string_agg(array_send(d.labels), ''),
        string_agg(int4send(d.install), ''), string_agg(int4send(d.profile_id), ''),
        string_agg(int4send(d.first_seen), ''), string_agg(int4send(d.last_seen), ''),
        string_agg(int2send(coalesce(octet_length(d.alias), 0)::int2), ''), string_agg(convert_to(d.alias, 'UTF8'), '')
    FROM (SELECT d.* FROM unnest(p_ids) AS n (id) JOIN devices d ON d.id = n.id ORDER BY d.id) d
$$;

CREATE TYPE user_columns AS (
    ids bytea, revisions bytea, apps bytea, deleted bytea, external_ids text[], label_counts bytea, labels bytea,
    email_bytes bytea, emails bytea, attribute_bytes bytea, attributes bytea, quiet bytea
);
CREATE FUNCTION user_images(p_ids int[]) RETURNS user_columns LANGUAGE sql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
    SELECT string_agg(int4send(u.id), ''), string_agg(int4send(u.revision), ''), string_agg(int4send(u.app_id), ''),
        string_agg(boolsend(u.deleted_at IS NOT NULL), ''), array_agg(u.external_id),
        string_agg(int2send(coalesce(cardinality(u.tags || u.channels), 0)::int2), ''),
        string_agg(array_send(u.tags || u.channels), ''),
        string_agg(int2send(coalesce(octet_length(u.email), 0)::int2), ''), string_agg(convert_to(u.email, 'UTF8'), ''),
        string_agg(int4send(coalesce(octet_length(u.attributes), 0)), ''),
        string_agg(convert_to(u.attributes, 'UTF8'), ''), string_agg(int4send(coalesce(u.quiet, 0)), '')
    FROM (SELECT u.* FROM unnest(p_ids) AS n (id) JOIN users u ON u.id = n.id ORDER BY u.id) u
$$;

-- The images of what was changed, once the change is noted: mostly of one app, and then in one pass over the rows.
CREATE FUNCTION changed_devices(p_ids int[]) RETURNS device_columns LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    images device_columns;
    low int;
    high int;
    ids int[];
    revisions int[];
BEGIN
    SELECT string_agg(int4send(d.id), ''), string_agg(int4send(d.revision), ''), string_agg(int4send(d.route_id), ''),
            string_agg(int4send(coalesce(d.user_id, 0)), ''), string_agg(int2send(d.flags), ''),
            string_agg(int2send(coalesce(length(d.token), 0)::int2), ''), string_agg(d.token, ''),
            string_agg(int2send(coalesce(cardinality(d.labels), 0)::int2), ''),
            string_agg(array_send(d.labels), ''),
            string_agg(int4send(d.install), ''), string_agg(int4send(d.profile_id), ''),
            string_agg(int4send(d.first_seen), ''), string_agg(int4send(d.last_seen), ''),
            string_agg(int2send(coalesce(octet_length(d.alias), 0)::int2), ''), string_agg(convert_to(d.alias, 'UTF8'), ''),
        min(d.app_id), max(d.app_id), array_agg(d.id), array_agg(d.revision)
        INTO images.ids, images.revisions, images.routes, images.users, images.flags, images.token_bytes, images.tokens,
            images.label_counts, images.labels, images.installs, images.profiles, images.first_seen, images.last_seen,
            images.alias_bytes, images.aliases, low, high, ids, revisions
        FROM (SELECT d.* FROM unnest(p_ids) AS n (id) JOIN devices d ON d.id = n.id ORDER BY d.id) d;
    IF low = high THEN
        PERFORM note_change(1::smallint, low, ids, revisions);
    ELSIF low < high THEN
        PERFORM note_change(1::smallint, d.app_id, array_agg(d.id), array_agg(d.revision))
            FROM unnest(ids) AS n (id) JOIN devices d ON d.id = n.id GROUP BY d.app_id;
    END IF;
    RETURN images;
END $$;
CREATE FUNCTION changed_users(p_ids int[]) RETURNS user_columns LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
BEGIN
    PERFORM note_change(2::smallint, u.app_id, array_agg(u.id), array_agg(u.revision))
        FROM unnest(p_ids) AS n (id) JOIN users u ON u.id = n.id GROUP BY u.app_id;
    RETURN user_images(p_ids);
END $$;
