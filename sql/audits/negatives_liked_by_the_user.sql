-- A negative must not be something its own user liked. Runs for each kind of negatives.
with
    pairs as (
        select n.sample_id, p.user_id, n.item_id
        from positives as p
        join these_negatives as n on p.sample_id = n.sample_id
    )
select n.sample_id, n.user_id, n.item_id
from positives as p
right semi join pairs as n on p.user_id = n.user_id and p.item_id = n.item_id
