-- What a user was shown for nothing must not be something he liked.
with
    pairs as (
        select n.sample_id, p.user_id, n.item_id
        from positives as p
        join shown_negatives as n on p.sample_id = n.sample_id
    )
select n.sample_id, n.user_id, n.item_id
from positives as p
right semi join pairs as n on p.user_id = n.user_id and p.item_id = n.item_id
