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
    -- one row a user: when his features changed
    changes as (
        select user_id, array_agg(features_time order by features_time) as times
        from versions
        group by user_id
    ),
    -- one row a user: his clicks, oldest first
    clicks as (
        select
            user_id,
            array_agg(item_id order by event_time, item_id) as items,
            array_agg(event_time order by event_time, item_id) as moments
        from liked
        where not held_out
        group by user_id
    ),
    -- one row a click again, with the newest version that is not after it
    samples as (
        select
            c.user_id,
            unnest(c.items) as item_id,
            unnest(c.moments) as event_time,
            own_list(unnest(histories(c.items, c.moments, $history_length))) as history,
            unnest(as_of(c.moments, v.times)) as features_time
        from changes as v
        right join clicks as c on v.user_id = c.user_id
    )
select
    stable_hash($seed, s.user_id, s.item_id, s.event_time) as sample_id,
    s.user_id,
    s.item_id,
    s.event_time,
    s.history,
    s.features_time,
    u.* except (user_id, features_time)
from versions as u
right join samples as s on u.user_id = s.user_id and u.features_time = s.features_time
