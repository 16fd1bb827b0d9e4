-- A negative must be an item of the catalogue, or it has no features. Runs for each kind of negatives.
with
    outside as (
        select n.item_id
        from item_features as i
        right anti join these_negatives as n on n.item_id = i.item_id
    )
select item_id, count(*) as copies
from outside
group by item_id
