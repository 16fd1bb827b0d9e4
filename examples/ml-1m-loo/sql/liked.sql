-- Each user's movies in a seeded random order: the data has no times. `position` counts from 1. Takes the place of the built-in
-- table of clicks.
select
    user_id,
    item_id,
    cast(
        row_number() over (partition by user_id order by stable_hash($seed, user_id, item_id), item_id) as bigint
    ) as position
from ratings
