-- A positive whose item is not in the catalogue has no features, so training leaves it out.
with
    outside as (
        select p.item_id
        from item_features as i
        right anti join positives as p on p.item_id = i.item_id
    )
select item_id, count(*) as positives
from outside
group by item_id
