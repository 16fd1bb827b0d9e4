-- The positives that get hard negatives: as many as give one hard row for $random_per_hard random ones.
with
    -- users whose ranking reaches the rank window at all
    reached as (
        select user_id
        from hard_scores
        group by user_id
        having count(*) >= $hard_rank_from
    ),
    random_rows as (
        select count(*) as n
        from random_negatives
    ),
    shuffled as (
        select
            p.sample_id,
            p.user_id,
            p.item_id,
            -- row_number is unsigned, and mixed with a BIGINT it would turn into a decimal
            cast(row_number() over (order by stable_hash($seed, 'hard', p.sample_id), p.sample_id) as bigint) as place
        from reached as r
        join positives as p on r.user_id = p.user_id
    )
select s.sample_id, s.user_id, s.item_id
from random_rows as r
cross join shuffled as s
where s.place * $hard_per_positive * $random_per_hard <= r.n
