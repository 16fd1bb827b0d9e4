-- Every user as a service would see him after the last day: his newest items and his profile.
with
lists as (
    select user_id, array_agg(item_id order by event_time desc, item_id desc) as items
    from liked
    group by user_id
)

select
    profiles.user_id,
    coalesce(array_slice(lists.items, 1, $history_length), make_array()) as history,
    profiles.* except (user_id)
from profiles
left join lists on profiles.user_id = lists.user_id
