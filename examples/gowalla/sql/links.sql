-- The visits as links between users and places, each weighed by one over the root of how many links its two ends have: those of a
-- user with many places, or of a place with many visitors, say less. The order of a user's places, and of a place's visitors, is a
-- seeded random one: the data has no times.
with counted as (
    select
        user_id,
        item_id,
        count(*) over (partition by user_id) as places,
        count(*) over (partition by item_id) as visitors,
        stable_hash($seed, user_id, item_id) as tie
    from interactions
)

select
    user_id,
    item_id,
    tie,
    -- how much the links count beside the embedding of the user or the place itself
    $link_weight / sqrt(cast(places * visitors as double)) as weight
from counted
