-- Items drawn from the whole catalogue for each positive, without what its user was shown or liked.
with
    -- what the user knows is no random item
    known as (
        select user_id, item_id
        from impressions
        union all
        select user_id, item_id
        from positives
    ),
    drawn as (
        select
            sample_id,
            user_id,
            unnest(sample_items(stable_hash($seed, 'random', sample_id), $random_per_positive)) as item_id
        from positives
    ),
    -- summed as decimals, which gives the same sum in any order
    total as (
        select cast(sum(cast(sampling_weight as decimal(38, 9))) as double) as weight
        from item_frequency
    ),
    probabilities as (
        select f.item_id, f.sampling_weight / t.weight as sampling_probability
        from item_frequency as f
        cross join total as t
    ),
    -- the first side of a join is held in memory: the draws, where they are few against one click in twenty impressions
    unknown as (
        select d.sample_id, d.item_id
        from drawn as d
        left anti join known as k on d.user_id = k.user_id and d.item_id = k.item_id
        where $random_per_positive <= 20
        union all
        select d.sample_id, d.item_id
        from known as k
        right anti join drawn as d on k.user_id = d.user_id and k.item_id = d.item_id
        where $random_per_positive > 20
    )
select u.sample_id, u.item_id, p.sampling_probability
from probabilities as p
join unknown as u on p.item_id = u.item_id
