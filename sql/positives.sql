-- One row a click, with what the user had clicked before it and the features of `users`.
with
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
    -- one row a click again
    samples as (
        select
            c.user_id,
            unnest(c.items) as item_id,
            unnest(c.moments) as event_time,
            unnest(histories(c.items, c.moments, $history_length)) as history,
            u.* except (user_id)
        from users as u
        right join clicks as c on u.user_id = c.user_id
    )
select stable_hash($seed, user_id, item_id, event_time) as sample_id, *
from samples
