-- A random negative must be an item of the catalogue, or it has no features.
with
    drawn as (
        select item_id, count(*) as draws
        from random_negatives
        group by item_id
    )
select d.item_id, d.draws
from drawn as d
left anti join item_features as i on i.item_id = d.item_id
