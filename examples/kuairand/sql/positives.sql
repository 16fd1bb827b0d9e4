-- One row for each liked item, with the user as he was when he clicked it.
with
-- the position from the newest (1) back, so that what follows in the list is what came before in time
numbered as (
    select
        user_id,
        item_id,
        event_time,
        cast(row_number() over (partition by user_id order by event_time desc, item_id desc) as bigint) as back
    from liked
),

-- each user's items, newest first; a user has at most a hundred or so
lists as (
    select user_id, array_agg(item_id order by event_time desc, item_id desc) as items
    from liked
    group by user_id
)

select
    stable_hash($seed, numbered.user_id, numbered.item_id) as sample_id,
    numbered.user_id,
    numbered.item_id,
    numbered.event_time,
    array_slice(lists.items, numbered.back + 1, numbered.back + $history_length) as history,
    profiles.* except (user_id)
from numbered
inner join lists on numbered.user_id = lists.user_id
left join profiles on numbered.user_id = profiles.user_id
