-- In-app messages: what they say, to whom they were released, and what each recipient did with them.
--
-- A recipient is a user, or an install as long as it has none; `recipient` is the number of the user, or minus that of the
-- install. A message to few is rows in in_app_letters; one to many is bitmaps in parts of 2^20 ids: of users, and of the
-- devices of installs that had no user. States are rows of those who did something. Everything ages out with the month of
-- its message.
--
-- What has a time is a schedule (0010) until that comes. A message that goes out in several releases, or in batches, has its
-- releases from number 1 on in in_app_releases, each with its own times and recipients; the message says what they have in
-- common. One release to all at once has number 0, and no row there.

CREATE TABLE in_app_messages (
    id              bigint NOT NULL,
    app_id          int NOT NULL,
    created_at      timestamptz NOT NULL,
    name            text,
    audience        text NOT NULL,
    -- What recipients are given, JSON; and the push that goes along.
    body            text NOT NULL,
    push            text,
    -- When it was to be released; null: when it was made.
    send_at         timestamptz,
    -- Of what recurs.
    schedule_id     bigint,
    released_at     timestamptz,
    -- From then on it is not presented any more; null: it never is.
    expires_at      timestamptz,
    -- When it is in inboxes; both null: it never is.
    inbox_from      timestamptz,
    inbox_to        timestamptz,
    -- The later of both ends.
    ends_at         timestamptz,
    cancelled_at    timestamptz,
    updated_at      timestamptz NOT NULL,
    users           int NOT NULL DEFAULT 0,
    installs        int NOT NULL DEFAULT 0,
    -- Recipients of a message to few; null: there are bitmaps, or it is not released.
    letters         int[],
    -- Of the push that went along.
    notification_id bigint,
    -- Recipients whose time had passed.
    suppressed      int NOT NULL DEFAULT 0,
    -- When it was paused and went on, in turns: what was to come in between comes then.
    pauses          float8[] NOT NULL DEFAULT '{}',
    -- Somebody brought its end forward.
    cut             boolean NOT NULL DEFAULT false,
    PRIMARY KEY (app_id, id, created_at)
) PARTITION BY RANGE (created_at);

CREATE TABLE in_app_releases (
    message_id  bigint NOT NULL,
    release     int NOT NULL,
    released_at timestamptz NOT NULL,
    -- As those of the message, of the first batch.
    expires_at  timestamptz,
    inbox_from  timestamptz,
    inbox_to    timestamptz,
    -- Of the last one.
    ends_at     timestamptz NOT NULL,
    -- One a minute, equal parts of each part of the recipients, or of its letters, by rank.
    batches     int NOT NULL,
    letters     int[],
    -- To nobody: the time of these had passed.
    missed      boolean NOT NULL,
    -- Of the message.
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (message_id, release, created_at)
) PARTITION BY RANGE (created_at);

CREATE TABLE in_app_letters (
    recipient  int NOT NULL,
    message_id bigint NOT NULL,
    release    int NOT NULL,
    -- As of the release: later ones only bring it forward, in the message itself.
    ends_at    timestamptz NOT NULL,
    -- Of the message.
    created_at timestamptz NOT NULL,
    PRIMARY KEY (recipient, message_id, created_at)
) PARTITION BY RANGE (created_at);

CREATE TABLE in_app_parts (
    message_id bigint NOT NULL,
    release    int NOT NULL,
    -- Else devices.
    users      boolean NOT NULL,
    part       int NOT NULL,
    ids        bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (message_id, release, users, part, created_at)
) PARTITION BY RANGE (created_at);
ALTER TABLE in_app_parts ALTER COLUMN ids SET STORAGE EXTERNAL;

-- Messages to many that are shown now, or were until of late: what a node has in memory of an app that is asked for.
CREATE TABLE in_app_live (
    app_id     int NOT NULL,
    message_id bigint NOT NULL,
    release    int NOT NULL,
    ends_at    timestamptz NOT NULL,
    bytes      int NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, message_id, release)
);
CREATE INDEX in_app_live_ends ON in_app_live (ends_at);

-- Pushes that go along and are not accepted yet.
CREATE TABLE in_app_pushes (
    message_id  bigint PRIMARY KEY,
    app_id      int NOT NULL,
    created_at  timestamptz NOT NULL,
    released_at timestamptz NOT NULL,
    -- Whoever took it has this long before others may.
    taken_until timestamptz NOT NULL
);

CREATE TABLE in_app_states (
    recipient    int NOT NULL,
    message_id   bigint NOT NULL,
    -- By the device's clock, kept between the release and the arrival; the first report of each counts.
    delivered_at timestamptz,
    opened_at    timestamptz,
    read_at      timestamptz,
    dismissed_at timestamptz,
    deleted_at   timestamptz,
    updated_at   timestamptz NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (recipient, message_id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX in_app_states_message ON in_app_states (message_id, recipient);

-- How many recipients did what.
CREATE TABLE in_app_counts (
    message_id bigint NOT NULL,
    delivered  int NOT NULL DEFAULT 0,
    opened     int NOT NULL DEFAULT 0,
    read       int NOT NULL DEFAULT 0,
    dismissed  int NOT NULL DEFAULT 0,
    deleted    int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (message_id, created_at)
) PARTITION BY RANGE (created_at);

SELECT make_partitions(now(), 2);

-- Keeps a message, not released yet; or, where p_due is given, a schedule: then p_audience is its send, and p_body all that it
-- says. Null; or, where the caller's key is known, what that stands for.
CREATE FUNCTION accept_in_app(
    p_now timestamptz, p_keep interval, p_app int, p_id bigint, p_name text, p_audience text, p_body text, p_push text,
    p_due timestamptz, p_nominal timestamptz, p_recurring boolean, p_key text, p_hash bytea, p_answer bytea,
    OUT body_hash bytea, OUT known_id bigint, OUT answer bytea
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM apps a WHERE a.id = p_app AND a.deleted_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no app %', p_app USING ERRCODE = 'PD404';
    END IF;
    IF p_key IS NOT NULL THEN
        INSERT INTO idempotency AS i (app_id, key, body_hash, notification_id, answer, created_at)
            VALUES (p_app, p_key, p_hash, p_id, p_answer, p_now)
            ON CONFLICT (app_id, key) DO UPDATE SET body_hash = excluded.body_hash, answer = excluded.answer,
                notification_id = excluded.notification_id, created_at = excluded.created_at, promised = false
                WHERE i.created_at < excluded.created_at - p_keep;
        IF NOT FOUND THEN
            SELECT i.body_hash, i.notification_id, i.answer INTO body_hash, known_id, answer
                FROM idempotency i WHERE i.app_id = p_app AND i.key = p_key;
            RETURN;
        END IF;
    END IF;
    IF p_due IS NULL THEN
        INSERT INTO in_app_messages (id, app_id, created_at, name, audience, body, push, updated_at)
            VALUES (p_id, p_app, p_now, p_name, p_audience, p_body, p_push, p_now);
        RETURN;
    END IF;
    INSERT INTO schedules (id, app_id, created_at, accepted_at, name, send, recurring, next_at, nominal, in_app)
        VALUES (p_id, p_app, p_now, p_now, p_name, p_audience, p_recurring, p_due, p_nominal, p_body);
    IF p_due <= p_now + interval '1 minute' THEN
        PERFORM note_change(11::smallint, p_app, ARRAY[p_id::int]);
    END IF;
END $$;

-- Releases a message, or a further part of it, to p_letters, or (null) to the bitmaps p_parts of users or devices: once and
-- whole (p_batches 0), or as one of its releases, in so many batches. p_missed: their time has passed, nobody gets it.
-- Whether it was; not where the message is gone or withdrawn, or was released as a whole before.
CREATE FUNCTION release_in_app(
    p_now timestamptz, p_lease timestamptz, p_app int, p_id bigint, p_expires timestamptz, p_from timestamptz, p_to timestamptz,
    p_ends timestamptz, p_users int, p_installs int, p_letters int[], s_users boolean[], s_part int[], s_ids bytea[],
    p_batches int, p_missed boolean
) RETURNS boolean LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    m in_app_messages;
    number int := 0;
BEGIN
    PERFORM 1 FROM apps a WHERE a.id = p_app AND a.deleted_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT * INTO m FROM in_app_messages k WHERE k.app_id = p_app AND k.id = p_id AND k.cancelled_at IS NULL
        AND (p_batches > 0 OR k.released_at IS NULL) FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF m.released_at IS NULL THEN
        INSERT INTO in_app_counts (message_id, created_at) VALUES (p_id, m.created_at);
    END IF;
    IF p_missed THEN
        UPDATE in_app_messages k SET suppressed = k.suppressed + p_users + p_installs, released_at = coalesce(k.released_at, p_now),
                ends_at = coalesce(k.ends_at, p_now), letters = CASE WHEN k.released_at IS NULL THEN '{}' ELSE k.letters END
            WHERE k.app_id = p_app AND k.id = p_id AND k.created_at = m.created_at;
    ELSE
        -- LEAST and GREATEST pass over what is null.
        UPDATE in_app_messages k SET released_at = coalesce(k.released_at, p_now),
                expires_at = greatest(k.expires_at, p_expires + make_interval(mins => greatest(p_batches - 1, 0))),
                inbox_from = least(k.inbox_from, p_from), inbox_to = greatest(k.inbox_to, p_to),
                ends_at = CASE WHEN k.cut THEN k.ends_at ELSE greatest(k.ends_at, p_ends) END,
                users = k.users + p_users, installs = k.installs + p_installs,
                letters = CASE WHEN p_batches = 0 OR p_letters IS NULL OR k.released_at IS NULL THEN p_letters
                    ELSE CASE WHEN k.letters IS NOT NULL THEN k.letters || p_letters END END,
                updated_at = CASE WHEN k.released_at IS NULL THEN p_now ELSE k.updated_at END
            WHERE k.app_id = p_app AND k.id = p_id AND k.created_at = m.created_at;
    END IF;
    IF p_batches > 0 THEN
        SELECT coalesce(max(r.release), 0) + 1 INTO number FROM in_app_releases r
            WHERE r.message_id = p_id AND r.created_at = m.created_at;
        INSERT INTO in_app_releases VALUES (p_id, number, p_now, p_expires, p_from, p_to, p_ends, p_batches,
            CASE WHEN NOT p_missed THEN p_letters END, p_missed, m.created_at);
        IF m.cut AND NOT p_missed THEN
            UPDATE in_app_releases r SET expires_at = CASE WHEN r.expires_at > m.ends_at THEN m.ends_at ELSE r.expires_at END,
                    inbox_to = CASE WHEN r.inbox_to > m.ends_at THEN m.ends_at ELSE r.inbox_to END, ends_at = least(r.ends_at, m.ends_at)
                WHERE r.message_id = p_id AND r.release = number AND r.created_at = m.created_at;
        END IF;
    ELSIF m.push IS NOT NULL AND p_users + p_installs > 0 THEN
        INSERT INTO in_app_pushes VALUES (p_id, p_app, m.created_at, p_now, p_lease);
    END IF;
    IF p_letters IS NOT NULL AND NOT p_missed THEN
        INSERT INTO in_app_letters SELECT l, p_id, number, p_ends, m.created_at FROM unnest(p_letters) l;
    ELSE
        INSERT INTO in_app_parts SELECT p_id, number, s.users, s.part, s.ids, m.created_at
            FROM unnest(s_users, s_part, s_ids) AS s (users, part, ids);
    END IF;
    IF p_missed THEN
        RETURN true;
    ELSIF p_letters IS NULL THEN
        INSERT INTO in_app_live VALUES (p_app, p_id, number, p_ends, octet_length(m.body), m.created_at);
        PERFORM note_change(20::smallint, p_app, ARRAY[p_id::int]);
    END IF;
    PERFORM note_event(p_app, 19, p_now, json_build_object('message_id', p_id, 'users', p_users, 'installs', p_installs)::text);
    RETURN true;
END $$;

-- Withdraws a message with its push, or ends the schedule that would become it, or them. `done` is null where there is no such
-- one, false where it was over before.
CREATE FUNCTION cancel_in_app(p_now timestamptz, p_app int, p_id bigint, OUT done boolean, OUT compactable bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    m in_app_messages;
    waited boolean;
BEGIN
    -- Whoever releases it holds this row first.
    UPDATE schedules SET cancelled_at = p_now, ended_at = p_now, next_at = NULL, revision = revision + 1
        WHERE app_id = p_app AND id = p_id AND in_app IS NOT NULL AND ended_at IS NULL;
    waited := FOUND;
    SELECT * INTO m FROM in_app_messages k WHERE k.app_id = p_app AND k.id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        done := CASE WHEN waited OR EXISTS (SELECT FROM schedules WHERE app_id = p_app AND id = p_id AND in_app IS NOT NULL
            AND cancelled_at IS NOT NULL) THEN true WHEN EXISTS (SELECT FROM schedules WHERE app_id = p_app AND id = p_id
            AND in_app IS NOT NULL) THEN false END;
        RETURN;
    END IF;
    done := waited OR m.cancelled_at IS NOT NULL OR coalesce(m.ends_at > p_now, true);
    IF m.cancelled_at IS NOT NULL OR NOT done THEN
        RETURN;
    END IF;
    UPDATE in_app_messages k SET cancelled_at = p_now, updated_at = p_now
        WHERE k.app_id = p_app AND k.id = p_id AND k.created_at = m.created_at;
    UPDATE in_app_live SET ends_at = p_now WHERE app_id = p_app AND message_id = p_id;
    DELETE FROM in_app_pushes WHERE message_id = p_id;
    PERFORM note_change(20::smallint, p_app, ARRAY[p_id::int]);
    IF m.notification_id IS NOT NULL THEN
        SELECT c.compactable INTO compactable FROM cancel_notification(p_app, m.notification_id, p_now) c;
    END IF;
END $$;

-- Pauses a push that was scheduled along with a message, or lets it go on; as it is where nothing of it is left.
CREATE FUNCTION pause_push(p_now timestamptz, p_app int, p_id bigint, p_paused boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Whoever fires it holds its row; then it is gone, and what it became is seen below. Its time stays: it is that of the message.
    UPDATE schedules SET active = NOT p_paused, revision = revision + 1
        WHERE app_id = p_app AND id = p_id AND NOT recurring AND ended_at IS NULL AND active = p_paused;
    IF NOT FOUND THEN
        PERFORM pause_notification(p_app, p_id, p_now, p_paused);
    ELSIF NOT p_paused THEN
        PERFORM note_change(11::smallint, p_app, ARRAY[p_id::int]);
    END IF;
END $$;

-- Pauses a message of which more is to come with its push, or lets them go on; null: there is no such one, false: all of it came.
CREATE FUNCTION pause_in_app(p_now timestamptz, p_app int, p_id bigint, p_paused boolean) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    m in_app_messages;
    more boolean;
    open boolean;
    away interval;
BEGIN
    UPDATE schedules SET active = NOT p_paused, revision = revision + 1
        WHERE app_id = p_app AND id = p_id AND stage IS NOT NULL AND ended_at IS NULL;
    more := FOUND;
    SELECT * INTO m FROM in_app_messages k WHERE k.app_id = p_app AND k.id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF m.cancelled_at IS NOT NULL THEN
        RETURN false;
    END IF;
    open := cardinality(m.pauses) % 2 = 1;
    IF NOT more AND NOT open AND NOT EXISTS (SELECT FROM in_app_releases r WHERE r.message_id = p_id AND r.created_at = m.created_at
            AND NOT r.missed AND r.released_at + make_interval(mins => r.batches - 1) > p_now) THEN
        RETURN false;
    END IF;
    IF m.notification_id IS NOT NULL THEN
        PERFORM pause_push(p_now, p_app, m.notification_id, p_paused);
    END IF;
    IF open = p_paused THEN
        RETURN true;
    END IF;
    IF open THEN
        away := p_now - to_timestamp(m.pauses[cardinality(m.pauses)]);
    END IF;
    UPDATE in_app_messages k SET pauses = k.pauses || extract(epoch FROM p_now)::float8, updated_at = p_now
        WHERE k.app_id = p_app AND k.id = p_id AND k.created_at = m.created_at;
    IF open AND NOT m.cut THEN
        -- Whoever gets it later has it for as long.
        UPDATE in_app_releases r SET ends_at = r.ends_at + away
            WHERE r.message_id = p_id AND r.created_at = m.created_at AND r.batches > 1 AND NOT r.missed;
        UPDATE in_app_live l SET ends_at = l.ends_at + away WHERE l.app_id = p_app AND l.message_id = p_id AND l.release > 0;
        UPDATE in_app_letters l SET ends_at = l.ends_at + away FROM unnest(m.letters) AS r (id)
            WHERE l.recipient = r.id AND l.message_id = p_id AND l.created_at = m.created_at AND l.release > 0;
        UPDATE in_app_messages k SET ends_at = k.ends_at + away, expires_at = k.expires_at + away
            WHERE k.app_id = p_app AND k.id = p_id AND k.created_at = m.created_at
            AND EXISTS (SELECT FROM in_app_releases r WHERE r.message_id = p_id AND r.created_at = m.created_at AND r.batches > 1);
    END IF;
    PERFORM note_change(20::smallint, p_app, ARRAY[p_id::int]);
    IF more AND NOT p_paused THEN
        PERFORM note_change(11::smallint, p_app, ARRAY[p_id::int]);
    END IF;
    RETURN true;
END $$;

-- Gives a message another name (bit 1 of p_mask), or an earlier end (bit 2); null: there is no such one, false: it is over,
-- or ends before that anyway.
CREATE FUNCTION change_in_app(
    p_now timestamptz, p_app int, p_id bigint, p_mask int, p_name text, p_ends timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    m in_app_messages;
BEGIN
    SELECT * INTO m FROM in_app_messages k WHERE k.app_id = p_app AND k.id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF p_mask & 2 <> 0 AND (m.released_at IS NULL OR m.cancelled_at IS NOT NULL OR m.ends_at <= p_now OR m.ends_at < p_ends)
    THEN
        RETURN false;
    END IF;
    UPDATE in_app_messages k SET
        name = CASE WHEN p_mask & 1 <> 0 THEN p_name ELSE k.name END,
        -- LEAST passes over what is null; CASE keeps null what never is.
        expires_at = CASE WHEN p_mask & 2 <> 0 AND k.expires_at > p_ends THEN p_ends ELSE k.expires_at END,
        inbox_to = CASE WHEN p_mask & 2 <> 0 AND k.inbox_to > p_ends THEN p_ends ELSE k.inbox_to END,
        ends_at = CASE WHEN p_mask & 2 <> 0 THEN p_ends ELSE k.ends_at END,
        cut = k.cut OR p_mask & 2 <> 0,
        updated_at = CASE WHEN p_mask & 2 <> 0 THEN p_now ELSE k.updated_at END
        WHERE k.app_id = p_app AND k.id = p_id AND k.created_at = m.created_at;
    IF p_mask & 2 <> 0 THEN
        UPDATE in_app_releases r SET
            expires_at = CASE WHEN r.expires_at > p_ends THEN p_ends ELSE r.expires_at END,
            inbox_to = CASE WHEN r.inbox_to > p_ends THEN p_ends ELSE r.inbox_to END, ends_at = least(r.ends_at, p_ends)
            WHERE r.message_id = p_id AND r.created_at = m.created_at;
        UPDATE in_app_live SET ends_at = least(ends_at, p_ends) WHERE app_id = p_app AND message_id = p_id;
        PERFORM note_change(20::smallint, p_app, ARRAY[p_id::int]);
    END IF;
    RETURN true;
END $$;

-- Takes what recipients did, each pair of recipient and message once; times are seconds since the epoch, null: not done. For
-- each row the bits of what is new: 1 delivered, 2 opened, 4 read, 8 dismissed, 16 deleted; null: the recipient is gone.
CREATE FUNCTION take_in_app_events(
    p_now timestamptz, e_recipient int[], e_message bigint[], e_created timestamptz[],
    e_delivered float8[], e_opened float8[], e_read float8[], e_dismissed float8[], e_deleted float8[]
) RETURNS int[] LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    there boolean[];
    fresh int[];
BEGIN
    -- Whoever deletes a recipient waits for us, or we see that it is gone.
    PERFORM 1 FROM (SELECT DISTINCT r FROM unnest(e_recipient) r WHERE r > 0) s JOIN users u ON u.id = s.r
        ORDER BY u.id FOR SHARE OF u;
    PERFORM 1 FROM (SELECT DISTINCT r FROM unnest(e_recipient) r WHERE r < 0) s JOIN installs i ON i.id = -s.r
        ORDER BY i.id FOR KEY SHARE OF i;
    SELECT array_agg(CASE WHEN e.recipient > 0
            THEN EXISTS (SELECT FROM users u WHERE u.id = e.recipient AND u.deleted_at IS NULL)
            ELSE EXISTS (SELECT FROM installs i WHERE i.id = -e.recipient) END ORDER BY e.row)
        INTO there FROM unnest(e_recipient) WITH ORDINALITY AS e (recipient, row);
    INSERT INTO in_app_states (recipient, message_id, updated_at, created_at)
        SELECT e.recipient, e.message, p_now, e.created
        FROM unnest(e_recipient, e_message, e_created, there) AS e (recipient, message, created, there)
        WHERE e.there AND NOT EXISTS (SELECT FROM in_app_states s
            WHERE s.recipient = e.recipient AND s.message_id = e.message AND s.created_at = e.created)
        ORDER BY e.recipient, e.message
        ON CONFLICT DO NOTHING;
    -- Held from here on, so that each thing is new once.
    PERFORM 1 FROM (SELECT e.recipient, e.message, e.created FROM unnest(e_recipient, e_message, e_created)
            AS e (recipient, message, created) ORDER BY e.recipient, e.message) e
        CROSS JOIN LATERAL (SELECT s.recipient FROM in_app_states s WHERE s.recipient = e.recipient
            AND s.message_id = e.message AND s.created_at = e.created OFFSET 0 FOR UPDATE) s;
    SELECT array_agg(CASE WHEN s.recipient IS NOT NULL THEN
            CASE WHEN e.delivered IS NOT NULL AND s.delivered_at IS NULL THEN 1 ELSE 0 END
            + CASE WHEN e.opened IS NOT NULL AND s.opened_at IS NULL THEN 2 ELSE 0 END
            + CASE WHEN e.read IS NOT NULL AND s.read_at IS NULL THEN 4 ELSE 0 END
            + CASE WHEN e.dismissed IS NOT NULL AND s.dismissed_at IS NULL THEN 8 ELSE 0 END
            + CASE WHEN e.deleted IS NOT NULL AND s.deleted_at IS NULL THEN 16 ELSE 0 END END ORDER BY e.row)
        INTO fresh
        FROM unnest(e_recipient, e_message, e_created, e_delivered, e_opened, e_read, e_dismissed, e_deleted)
            WITH ORDINALITY AS e (recipient, message, created, delivered, opened, read, dismissed, deleted, row)
        LEFT JOIN in_app_states s ON s.recipient = e.recipient AND s.message_id = e.message AND s.created_at = e.created;
    UPDATE in_app_states s SET
        delivered_at = coalesce(s.delivered_at, to_timestamp(e.delivered)), opened_at = coalesce(s.opened_at, to_timestamp(e.opened)),
        read_at = coalesce(s.read_at, to_timestamp(e.read)), dismissed_at = coalesce(s.dismissed_at, to_timestamp(e.dismissed)),
        deleted_at = coalesce(s.deleted_at, to_timestamp(e.deleted)), updated_at = p_now
        FROM unnest(e_recipient, e_message, e_created, e_delivered, e_opened, e_read, e_dismissed, e_deleted, fresh)
            AS e (recipient, message, created, delivered, opened, read, dismissed, deleted, fresh)
        WHERE s.recipient = e.recipient AND s.message_id = e.message AND s.created_at = e.created AND e.fresh > 0;
    PERFORM 1 FROM (SELECT DISTINCT e.message, e.created FROM unnest(e_message, e_created, fresh) AS e (message, created, fresh)
            WHERE e.fresh > 0) e
        JOIN in_app_counts c ON c.message_id = e.message AND c.created_at = e.created ORDER BY c.message_id FOR UPDATE OF c;
    UPDATE in_app_counts c SET delivered = c.delivered + e.delivered, opened = c.opened + e.opened, read = c.read + e.read,
            dismissed = c.dismissed + e.dismissed, deleted = c.deleted + e.deleted
        FROM (SELECT e.message, e.created, count(*) FILTER (WHERE e.fresh & 1 <> 0) AS delivered,
                count(*) FILTER (WHERE e.fresh & 2 <> 0) AS opened, count(*) FILTER (WHERE e.fresh & 4 <> 0) AS read,
                count(*) FILTER (WHERE e.fresh & 8 <> 0) AS dismissed, count(*) FILTER (WHERE e.fresh & 16 <> 0) AS deleted
            FROM unnest(e_message, e_created, fresh) AS e (message, created, fresh) WHERE e.fresh > 0 GROUP BY 1, 2) e
        WHERE c.message_id = e.message AND c.created_at = e.created;
    IF EXISTS (SELECT FROM listeners) THEN
        PERFORM note_in_app(p_now, e_recipient, e_message, e_delivered, e_opened, e_read, e_dismissed, e_deleted, fresh);
    END IF;
    RETURN fresh;
END $$;

-- Forgets what recipients that are gone were sent by name and what they did; counts stay.
CREATE FUNCTION forget_recipients(p_recipients int[]) RETURNS void LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
BEGIN
    DELETE FROM in_app_letters l USING unnest(p_recipients) AS r (id) WHERE l.recipient = r.id;
    DELETE FROM in_app_states s USING unnest(p_recipients) AS r (id) WHERE s.recipient = r.id;
END $$;

-- Deletes messages from the list of what is shown that ended before a time, and what belongs to apps that are gone, at most
-- so many of each. Whether there may be more to delete.
CREATE FUNCTION sweep_in_app(p_before timestamptz, p_gone timestamptz, p_limit int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    deleted int;
    more boolean;
    old record;
BEGIN
    DELETE FROM in_app_live l WHERE (l.app_id, l.message_id, l.release) IN (SELECT k.app_id, k.message_id, k.release FROM in_app_live k
        WHERE k.ends_at < p_before ORDER BY k.ends_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    more := deleted = p_limit;
    FOR old IN SELECT m.* FROM apps a JOIN in_app_messages m ON m.app_id = a.id WHERE a.deleted_at < p_gone LIMIT p_limit LOOP
        more := true;
        DELETE FROM in_app_states s WHERE s.message_id = old.id AND s.created_at = old.created_at;
        DELETE FROM in_app_letters l USING unnest(old.letters) AS r (id)
            WHERE l.recipient = r.id AND l.message_id = old.id AND l.created_at = old.created_at;
        DELETE FROM in_app_parts p WHERE p.message_id = old.id AND p.created_at = old.created_at;
        DELETE FROM in_app_letters l USING in_app_releases r, unnest(r.letters) AS n (id)
            WHERE r.message_id = old.id AND r.created_at = old.created_at
            AND l.recipient = n.id AND l.message_id = old.id AND l.created_at = old.created_at;
        DELETE FROM in_app_releases r WHERE r.message_id = old.id AND r.created_at = old.created_at;
        DELETE FROM in_app_counts c WHERE c.message_id = old.id AND c.created_at = old.created_at;
        DELETE FROM in_app_pushes p WHERE p.message_id = old.id;
        DELETE FROM in_app_live l WHERE l.app_id = old.app_id AND l.message_id = old.id;
        DELETE FROM in_app_messages m WHERE m.app_id = old.app_id AND m.id = old.id AND m.created_at = old.created_at;
    END LOOP;
    RETURN more;
END $$;
