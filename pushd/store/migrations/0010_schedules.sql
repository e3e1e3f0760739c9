-- Schedules, which are sends whose time is to come, and rollouts: notifications that go out in more than one release.
--
-- What is due is found by an index, and nothing scans. Whoever decides about an occurrence or opens a release does so in one
-- transaction that begins with a compare-and-set of a revision: of two who try, one finds it changed and writes nothing.

CREATE TABLE schedules (
    -- From notification_ids. What does not recur becomes the notification of this id, and its row goes.
    id           bigint NOT NULL,
    app_id       int NOT NULL,
    created_at   timestamptz NOT NULL,
    -- As of when its time is judged: of its acceptance, or of the edit that changed its time.
    accepted_at  timestamptz NOT NULL,
    name         text,
    -- The send as it was asked for, JSON.
    send         text NOT NULL,
    recurring    boolean NOT NULL,
    revision     int NOT NULL DEFAULT 1,
    active       boolean NOT NULL DEFAULT true,
    -- When it is to be looked at, and for which occurrence; null: no more.
    next_at      timestamptz,
    nominal      timestamptz,
    occurred     int NOT NULL DEFAULT 0,
    skipped      int NOT NULL DEFAULT 0,
    ended_at     timestamptz,
    cancelled_at timestamptz,
    -- Of in-app messages: what they say, JSON; null: it is of notifications.
    in_app       text,
    -- Of one in-app message that goes round the world, and is no schedule any more: what its releases go by, JSON.
    stage        text,
    PRIMARY KEY (app_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX schedules_due ON schedules (next_at, id) WHERE active AND next_at IS NOT NULL;
CREATE INDEX schedules_ended ON schedules (ended_at) WHERE ended_at IS NOT NULL;

-- Which occurrences were decided about: each once.
CREATE TABLE occurrences (
    schedule_id     bigint NOT NULL,
    at              timestamptz NOT NULL,
    -- Null: it was skipped.
    notification_id bigint,
    decided_at      timestamptz NOT NULL,
    PRIMARY KEY (schedule_id, at)
) PARTITION BY RANGE (at);

-- Its row is locked by whoever opens a release, pauses, cancels, or ends a run.
CREATE TABLE rollouts (
    notification_id bigint NOT NULL,
    app_id          int NOT NULL,
    created_at      timestamptz NOT NULL,
    revision        int NOT NULL DEFAULT 1,
    -- When the next release is due; null: none waits.
    next_at         timestamptz,
    cancelled_at    timestamptz,
    paused_at       timestamptz,
    PRIMARY KEY (notification_id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX rollouts_due ON rollouts (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX rollouts_app ON rollouts (app_id) WHERE next_at IS NOT NULL;

CREATE TABLE releases (
    notification_id bigint NOT NULL,
    number          int NOT NULL,
    at              timestamptz NOT NULL,
    -- To whom it goes, JSON of the scheduler; null where that is known: then they are in `targets`.
    selector        text,
    -- Null: not known yet.
    targeted        int,
    -- 0 waiting, 1 open, 2 cancelled
    state           smallint NOT NULL DEFAULT 0,
    released_at     timestamptz,
    expires_at      timestamptz,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (notification_id, number, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX releases_waiting ON releases (notification_id, at, number) WHERE state = 0;

SELECT make_partitions(now(), 2);

-- Schedules that are due before a time, the first due first, behind one that was read before. By the index, whatever is
-- known of the table's size.
CREATE FUNCTION due_schedules(p_before timestamptz, p_limit int, p_after timestamptz, p_id bigint)
RETURNS SETOF schedules LANGUAGE sql STABLE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT * FROM schedules WHERE active AND next_at IS NOT NULL AND next_at <= p_before
        AND (next_at, id) > (coalesce(p_after, '-infinity'), coalesce(p_id, 0)) ORDER BY next_at, id LIMIT p_limit
$$;

-- Writes that rollouts are over: those of which nothing runs and no release waits. Gives those that can be compacted.
-- Their rows are locked by the caller.
CREATE FUNCTION finish_rollouts(p_ids bigint[], p_now timestamptz) RETURNS bigint[] LANGUAGE sql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_material = off AS $$
    WITH over AS (
        INSERT INTO finished (notification_id, created_at, finished_at, cancelled)
        SELECT o.notification_id, o.created_at, p_now, o.cancelled_at IS NOT NULL
        FROM unnest(p_ids) AS n (id) JOIN rollouts o ON o.notification_id = n.id
        WHERE o.next_at IS NULL AND NOT EXISTS (SELECT FROM runs r WHERE r.notification_id = o.notification_id)
        ON CONFLICT DO NOTHING
        RETURNING notification_id
    )
    SELECT array_agg(over.notification_id) FROM over
        CROSS JOIN LATERAL (SELECT FROM outcome_deltas d WHERE d.notification_id = over.notification_id LIMIT 1) d
$$;

-- Ends a notification: what has not been sent goes to nobody. `ended` is false where it is over, or there is no such.
CREATE FUNCTION cancel_notification(p_app int, p_id bigint, p_now timestamptz, OUT ended boolean, OUT compactable bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    made timestamptz;
    late_runs bigint[];
    late_counts int[];
    late_devices bytea[];
BEGIN
    -- Whoever fires it holds its row; then it is gone, and what it became is seen below.
    UPDATE schedules SET cancelled_at = p_now, ended_at = p_now, next_at = NULL, revision = revision + 1
        WHERE app_id = p_app AND id = p_id AND NOT recurring AND ended_at IS NULL;
    ended := FOUND;
    IF ended THEN
        PERFORM note_event(p_app, 3, p_now, '{"cancelled": true, "codes": []}', p_id);
        RETURN;
    END IF;
    SELECT o.created_at INTO made FROM rollouts o WHERE o.notification_id = p_id AND o.app_id = p_app FOR UPDATE;
    ended := made IS NOT NULL AND NOT EXISTS (SELECT FROM finished f WHERE f.notification_id = p_id AND f.created_at = made);
    IF ended THEN
        UPDATE rollouts SET cancelled_at = coalesce(cancelled_at, p_now), next_at = NULL, revision = revision + 1
            WHERE notification_id = p_id AND created_at = made;
        -- Whom it was to go to later is settled here, as cancelled (outcome.CANCELLED): nothing of them runs.
        WITH late AS (
            INSERT INTO outcome_deltas (notification_id, release, app_id, part, gateway, code, count, devices, at)
            SELECT p_id, t.release, p_app, t.part, 0, 12, t.count, t.devices, p_now
            FROM releases r JOIN targets t ON t.notification_id = p_id AND t.release = r.number AND t.created_at = made
            WHERE r.notification_id = p_id AND r.created_at = made AND r.state = 0
            RETURNING p_id + (outcome_deltas.release::bigint << 32) AS run, outcome_deltas.count, outcome_deltas.devices
        )
        SELECT array_agg(late.run), array_agg(late.count), array_agg(late.devices)
            INTO late_runs, late_counts, late_devices FROM late;
        IF late_runs IS NOT NULL AND EXISTS (SELECT FROM listeners) THEN
            PERFORM note_outcomes(p_now, late_runs, array_fill(p_app, ARRAY[cardinality(late_runs)]), '{}', '{}', '{}', '{}',
                late_runs, array_fill(0::smallint, ARRAY[cardinality(late_runs)]),
                array_fill(12::smallint, ARRAY[cardinality(late_runs)]), late_counts, late_devices);
        END IF;
        UPDATE releases SET state = 2 WHERE notification_id = p_id AND created_at = made AND state = 0;
    END IF;
    UPDATE runs SET cancelled_at = coalesce(cancelled_at, p_now) WHERE notification_id = p_id AND app_id = p_app;
    IF NOT FOUND AND NOT ended THEN
        RETURN;
    ELSIF ended THEN
        compactable := finish_rollouts(ARRAY[p_id], p_now);
        PERFORM note_rollouts_finished(p_now, ARRAY[p_id]);
    END IF;
    ended := true;
    PERFORM note_change(10::smallint, p_app, ARRAY[p_id::int]);
END $$;

-- Pauses a notification, or lets it go on; false where nothing of it runs or waits.
CREATE FUNCTION pause_notification(p_app int, p_id bigint, p_now timestamptz, p_paused boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    waits boolean;
BEGIN
    UPDATE rollouts o SET paused_at = CASE WHEN p_paused THEN coalesce(o.paused_at, p_now) END, revision = o.revision + 1
        WHERE o.notification_id = p_id AND o.app_id = p_app AND o.cancelled_at IS NULL AND NOT EXISTS (
            SELECT FROM finished f WHERE f.notification_id = p_id AND f.created_at = o.created_at);
    waits := FOUND;
    UPDATE runs SET paused_at = CASE WHEN p_paused THEN coalesce(paused_at, p_now) END
        WHERE notification_id = p_id AND app_id = p_app AND cancelled_at IS NULL;
    IF FOUND OR waits THEN
        PERFORM note_change(10::smallint, p_app, ARRAY[p_id::int]);
        RETURN true;
    END IF;
    RETURN false;
END $$;

-- Ends the next schedules of an app that is deleted, behind the one that was ended last; null: there are no more. Whoever fires
-- one at this moment is waited for.
CREATE FUNCTION end_schedules(p_app int, p_after bigint, p_limit int) RETURNS bigint LANGUAGE sql AS $$
    WITH slice AS MATERIALIZED (
        SELECT s.id FROM schedules s WHERE s.app_id = p_app AND s.id > p_after AND s.ended_at IS NULL
            ORDER BY s.id LIMIT p_limit FOR UPDATE
    ), ended AS (
        UPDATE schedules s SET next_at = NULL, ended_at = now(), cancelled_at = now(), revision = s.revision + 1
            WHERE s.app_id = p_app AND s.id = ANY (ARRAY(SELECT slice.id FROM slice))
    )
    SELECT max(slice.id) FROM slice
$$;

-- Ends the next that an app that is deleted has running, likewise, and before them its releases to come. Whoever opens one at
-- this moment is waited for.
CREATE FUNCTION end_runs(p_app int, p_after bigint, p_limit int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    ended int[];
BEGIN
    UPDATE rollouts SET next_at = NULL, cancelled_at = now(), revision = revision + 1
        WHERE app_id = p_app AND next_at IS NOT NULL;
    SELECT array_agg(slice.notification_id ORDER BY slice.notification_id) INTO ended FROM (
        SELECT r.notification_id FROM runs r WHERE r.app_id = p_app AND r.notification_id > p_after AND r.cancelled_at IS NULL
            ORDER BY r.notification_id LIMIT p_limit FOR UPDATE) slice;
    IF ended IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE runs SET cancelled_at = now() WHERE notification_id = ANY (ended) AND cancelled_at IS NULL;
    PERFORM note_change(10::smallint, p_app, ended);
    RETURN ended[cardinality(ended)];
END $$;
