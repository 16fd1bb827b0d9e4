-- Items of the middle of a user's ranking that he did not like, for a share of the positives.
with
    -- users whose ranking reaches the rank window at all
    reached as (
        select user_id
        from ranker_scores
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
            -- row_number is unsigned, and mixed with a BIGINT it would turn into a decimal
            cast(row_number() over (order by stable_hash($seed, 'hard', p.sample_id), p.sample_id) as bigint) as place
        from reached as r
        join positives as p on r.user_id = p.user_id
    ),
    -- as many positives as give one hard row for $random_per_hard random ones
    chosen as (
        select s.sample_id, s.user_id
        from random_rows as r
        cross join shuffled as s
        where s.place * $hard_per_positive * $random_per_hard <= r.n
    ),
    chosen_users as (
        select distinct user_id
        from chosen
    ),
    -- held-out clicks too: what evaluation looks for must not be taught as disliked
    liked_pairs as (
        select distinct user_id, item_id
        from liked
    ),
    scored as (
        select r.user_id, r.item_id, r.score, stable_hash($seed, r.user_id, r.item_id) as tie
        from chosen_users as c
        join ranker_scores as r on c.user_id = r.user_id
    ),
    -- an item that he liked or that left the catalogue keeps its rank and is no candidate
    marked as (
        select s.user_id, s.item_id, s.score, s.tie, l.item_id is null and i.item_id is not null as is_candidate
        from item_features as i
        right join (
            liked_pairs as l
            right join scored as s on l.user_id = s.user_id and l.item_id = s.item_id
        ) on i.item_id = s.item_id
    ),
    ranked as (
        select
            user_id,
            item_id,
            score,
            tie,
            is_candidate,
            cast(row_number() over (partition by user_id order by score desc nulls last, tie) as bigint) as ranker_rank
        from marked
    ),
    -- candidates counted from 0, and how many follow: in the same order, so nothing is sorted twice
    candidates as (
        select
            user_id,
            item_id,
            score,
            ranker_rank,
            cast(row_number() over (partition by user_id order by score desc nulls last, tie) as bigint) - 1 as number,
            count(*) over (
                partition by user_id
                order by score desc nulls last, tie
                rows between 1 following and $hard_rank_to following
            ) as following
        from ranked
        where ranker_rank between $hard_rank_from and $hard_rank_to and is_candidate
    ),
    draws as (
        select sample_id, user_id, unnest(range(0, $hard_per_positive)) as draw
        from chosen
    ),
    -- a user's candidates are cut into as many parts as there are draws, and each draw takes one of its part: never one twice
    parts as (
        select
            d.sample_id,
            d.draw,
            c.item_id,
            c.score,
            c.ranker_rank,
            c.number,
            d.draw * (c.number + 1 + c.following) / $hard_per_positive as part_start,
            (d.draw + 1) * (c.number + 1 + c.following) / $hard_per_positive as part_end
        from draws as d
        join candidates as c on d.user_id = c.user_id
    )
select sample_id, item_id, score as ranker_score, ranker_rank
from parts
where
    part_end > part_start
    and number = part_start + stable_hash($seed, 'hard', sample_id, draw) % greatest(part_end - part_start, 1)
