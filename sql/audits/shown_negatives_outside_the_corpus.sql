-- A shown negative must be an item of the catalogue, or it has no features.
with
    outside as (
        select n.item_id
        from item_features as i
        right anti join shown_negatives as n on n.item_id = i.item_id
    )
select item_id, count(*) as draws
from outside
group by item_id
