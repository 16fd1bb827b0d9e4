-- One row a click, with what the user had clicked before it and the features of `users`.
with
    -- clicks of one instant must not see each other, so they make one row
    moments as (
        select user_id, event_time, array_agg(item_id order by item_id) as items
        from liked
        where not held_out
        group by user_id, event_time
    ),
    -- the moments strictly before, enough of them to fill a history
    histories as (
        select
            user_id,
            event_time,
            items,
            array_agg(items) over (
                partition by user_id
                order by event_time
                rows between $history_length preceding and 1 preceding
            ) as earlier
        from moments
    ),
    -- one row an item again; histories are newest first
    samples as (
        select
            user_id,
            event_time,
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
    u.* except (user_id)
from users as u
right join samples as s on u.user_id = s.user_id
