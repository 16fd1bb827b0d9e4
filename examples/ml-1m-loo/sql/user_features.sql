-- Every user with what is known of him and his movies, in the same random order that the samples are cut from.
with
histories as (
    select
        user_id,
        array_agg(item_id order by position) filter (where position <= $history_length) as history
    from liked
    group by user_id
)

select histories.user_id, histories.history, users.* except (user_id)
from histories
inner join users on histories.user_id = users.user_id
