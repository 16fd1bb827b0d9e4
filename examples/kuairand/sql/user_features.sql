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
    profiles.active_degree,
    profiles.is_author,
    profiles.follows,
    profiles.fans,
    profiles.friends,
    profiles.register_days,
    profiles.onehot_feat0,
    profiles.onehot_feat1,
    profiles.onehot_feat6,
    profiles.onehot_feat9,
    profiles.onehot_feat10,
    profiles.onehot_feat11
from profiles
left join lists on profiles.user_id = lists.user_id
