-- One row for each rating, with other movies of the same user as his history (leave one out, sample by sample), how much each counts,
-- and what is known of him.
with
-- each user's movies in order, then the same again, so that the movies after any one can be cut out as one piece
circles as (
    select
        user_id,
        array_agg(item_id order by position) as items,
        count(*) as movies,
        -- at most all the others: going round the circle once ends just before the movie itself
        least($history_length, count(*) - 1) as others
    from liked
    group by user_id
)

select
    stable_hash($seed, liked.user_id, liked.item_id) as sample_id,
    liked.user_id,
    liked.item_id,
    timestamp '2003-02-28 00:00:00' as event_time,
    array_slice(
        array_concat(circles.items, circles.items), liked.position + 1, liked.position + circles.others
    ) as history,
    -- their sum, divided by the root of how many there are
    array_repeat(1.0 / sqrt(circles.others), circles.others) as history_weights,
    -- the test asks once for each user, be his movies few or many
    power(circles.movies, -$user_power) as weight,
    users.* except (user_id)
from liked
inner join circles on liked.user_id = circles.user_id
inner join users on liked.user_id = users.user_id
