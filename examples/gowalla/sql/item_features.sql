-- The catalogue: every place that anyone visited, with the places most like it.
with
places as (
    select distinct item_id
    from interactions
)

select
    places.item_id,
    coalesce(neighbours.neighbours, make_array()) as neighbours,
    coalesce(neighbours.nearness, make_array()) as nearness
from places
left join neighbours on places.item_id = neighbours.item_id
