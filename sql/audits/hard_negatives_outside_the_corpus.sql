-- A hard negative must be an item of the catalogue, or it has no features.
with
    taken as (
        select item_id, count(*) as copies
        from hard_negatives
        group by item_id
    )
select t.item_id, t.copies
from taken as t
left anti join item_features as i on i.item_id = t.item_id
