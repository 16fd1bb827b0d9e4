-- What evaluation looks for must not be taught as disliked by its own user. Runs for each kind of negatives.
with
    held_out as (
        select distinct user_id, item_id
        from liked
        where held_out
    ),
    -- few: the samples of those users alone
    of_samples as (
        select p.sample_id, h.item_id
        from held_out as h
        join positives as p on p.user_id = h.user_id
    )
select n.sample_id, n.item_id
from of_samples as s
right semi join these_negatives as n on s.sample_id = n.sample_id and s.item_id = n.item_id
