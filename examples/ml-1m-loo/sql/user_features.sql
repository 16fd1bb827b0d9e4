-- Every user with what is known of him and all of his movies. These count together as much as the movies of a sample do.
with
histories as (
    select user_id, array_agg(item_id order by position) as history, count(*) as movies
    from liked
    group by user_id
)

select
    histories.user_id,
    histories.history,
    array_repeat(sqrt(least($history_length, movies)) / movies, movies) as history_weights,
    users.* except (user_id)
from histories
inner join users on histories.user_id = users.user_id
