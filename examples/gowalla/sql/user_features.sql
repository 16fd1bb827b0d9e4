-- Every user with his places, in the same random order that the samples are cut from.
select
    user_id,
    array_agg(item_id order by position) filter (where position <= $history_length) as history
from liked
group by user_id
