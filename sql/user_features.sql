-- Every user as a service would see him at the end of the day.
with
    histories as (
        select
            user_id,
            array_slice(array_agg(item_id order by event_time desc, item_id desc), 1, $history_length) as history
        from liked
        where not held_out
        group by user_id
    )
select
    coalesce(u.user_id, h.user_id) as user_id,
    coalesce(h.history, make_array()) as history,
    u.* except (user_id)
from users as u
full join histories as h on u.user_id = h.user_id
