-- A positive whose item is not in the catalogue has no features, so training leaves it out.
with
    liked_items as (
        select item_id, count(*) as positives
        from positives
        group by item_id
    )
select l.item_id, l.positives
from liked_items as l
left anti join item_features as i on i.item_id = l.item_id
