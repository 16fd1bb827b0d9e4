-- One row for each rating, with what is known of its user.
select
    stable_hash($seed, ratings.user_id, ratings.item_id) as sample_id,
    ratings.user_id,
    ratings.item_id,
    timestamp '2003-02-28 00:00:00' as event_time,
    users.* except (user_id)
from ratings
inner join users on ratings.user_id = users.user_id
