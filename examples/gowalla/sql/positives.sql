-- One row for each visit, with other places of the same user as his history: leave one out, sample by sample.
with
-- each user's places in order, then the same again, so that the places after any one can be cut out as one piece
circles as (
    select user_id, array_agg(item_id order by position) as items, count(*) as places
    from liked
    group by user_id
)

select
    stable_hash($seed, liked.user_id, liked.item_id) as sample_id,
    liked.user_id,
    liked.item_id,
    timestamp '2010-10-31 00:00:00' as event_time,
    -- at most all the others: going round the circle once ends just before the place itself
    array_slice(
        array_concat(circles.items, circles.items),
        liked.position + 1,
        liked.position + least($history_length, circles.places - 1)
    ) as history
from liked
inner join circles on liked.user_id = circles.user_id
