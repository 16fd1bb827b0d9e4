-- A hard negative must not be something its own user liked.
with
    pairs as (
        select n.sample_id, p.user_id, n.item_id
        from hard_negatives as n
        join positives as p on p.sample_id = n.sample_id
    )
select n.sample_id, n.user_id, n.item_id
from pairs as n
left semi join positives as p on p.user_id = n.user_id and p.item_id = n.item_id
