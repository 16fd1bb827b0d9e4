-- One row a click, with what the user had clicked before it, and the features of `users` that were known at that moment.
with
    -- since when each row of `users` is known: those of a day's partition from its end on
    versions as (
        select
            *,
            cast($users_time as timestamp(6))
            + case when $users_by_day then interval '1 day' else interval '0 days' end as features_time
        from users
    ),
    -- clicks of one instant must not see each other, so they make one row
    moments as (
        select user_id, event_time, array_agg(item_id order by item_id) as items
        from liked
        where not held_out
        group by user_id, event_time
    ),
    -- clicks and versions on one line of time, which is sorted once for both windows below
    timeline as (
        select user_id, event_time as moment, items, cast(null as timestamp(6)) as features_time
        from moments
        union all
        select user_id, features_time as moment, null as items, features_time
        from versions
    ),
    -- the newest version that is not after the click
    dated as (
        select
            user_id,
            moment,
            items,
            max(features_time) over (partition by user_id order by moment) as features_time
        from timeline
    ),
    -- the moments strictly before, enough of them to fill a history
    histories as (
        select
            user_id,
            moment,
            items,
            features_time,
            array_agg(items) over (
                partition by user_id
                order by moment
                rows between $history_length preceding and 1 preceding
            ) as earlier
        from dated
        where items is not null
    ),
    -- one row an item again; histories are newest first
    samples as (
        select
            user_id,
            moment as event_time,
            features_time,
            unnest(items) as item_id,
            array_slice(array_reverse(flatten(earlier)), 1, $history_length) as history
        from histories
    )
select
    stable_hash($seed, s.user_id, s.item_id, s.event_time) as sample_id,
    s.user_id,
    s.item_id,
    s.event_time,
    coalesce(s.history, make_array()) as history,
    s.features_time,
    u.* except (user_id, features_time)
from versions as u
right join samples as s on u.user_id = s.user_id and u.features_time = s.features_time
