-- Items of the middle of a user's ranking that he did not like, for a share of the positives.
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
    ),
    -- as many positives as give one hard row for $random_per_hard random ones
    chosen as (
        select s.sample_id, s.user_id, s.item_id
        from random_rows as r
        cross join shuffled as s
        where s.place * $hard_per_positive * $random_per_hard <= r.n
    ),
    chosen_users as (
        select distinct user_id
        from chosen
    ),
    -- clicks of the whole window, before and after the positive. Held-out ones too: what evaluation looks for must not be
    -- taught as disliked. What lies after the window is not known here
    liked_pairs as (
        select distinct user_id, item_id
        from liked
    ),
    scored as (
        select r.user_id, r.item_id, r.score, stable_hash($seed, r.user_id, r.item_id) as tie
        from chosen_users as c
        join hard_scores as r on c.user_id = r.user_id
    ),
    -- an item that he liked or that left the catalogue keeps its rank and is no candidate
    marked as (
        select s.user_id, s.item_id, s.score, s.tie, l.item_id is null as is_new, i.item_id is not null as is_known
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
            is_new,
            is_known,
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
        -- `keep` counts what each rule leaves out
        where
            keep(
                'rank', ranker_rank between $hard_rank_from and $hard_rank_to,
                'liked', is_new,
                'catalogue', is_known,
                'score', ($hard_min_score is null or score >= $hard_min_score)
                    and ($hard_max_score is null or score <= $hard_max_score)
            )
    ),
    -- the highest score that a negative of this positive may have; planned away where no margin is set
    ceilings as (
        select
            c.sample_id,
            max(
                r.score
                - greatest(coalesce($hard_margin, 0.0), coalesce($hard_relative_margin, 0.0) * abs(r.score))
            ) as ceiling
        from chosen as c
        join hard_scores as r on c.user_id = r.user_id and c.item_id = r.item_id
        where $hard_has_margin
        group by c.sample_id
    ),
    draws as (
        select c.sample_id, c.user_id, f.ceiling, unnest(range(0, $hard_per_positive)) as draw
        from chosen as c
        left join ceilings as f on c.sample_id = f.sample_id
    ),
    -- candidates of each draw, and how many of them come first that score too high for it; without a score to compare with, all do
    below as (
        select
            d.sample_id,
            d.draw,
            c.item_id,
            c.score,
            c.ranker_rank,
            c.number,
            c.number + 1 + c.following as candidates,
            case when $hard_has_margin then d.draw > 0 or coalesce(c.score <= d.ceiling, false) else true end as is_below,
            case
                when $hard_has_margin
                    then
                        count(case when not coalesce(c.score <= d.ceiling, false) then 1 end)
                            over (partition by d.sample_id, d.draw)
                else 0
            end as skipped
        from draws as d
        join candidates as c on d.user_id = c.user_id
    ),
    -- what is left is cut into as many parts as there are draws, and each draw takes one of its part: never one twice
    parts as (
        select
            sample_id,
            draw,
            item_id,
            score,
            ranker_rank,
            number - skipped as number,
            is_below,
            draw * (candidates - skipped) / $hard_per_positive as part_start,
            (draw + 1) * (candidates - skipped) / $hard_per_positive as part_end,
            candidates - skipped as candidates
        from below
    ),
    drawn as (
        select
            sample_id,
            draw,
            item_id,
            score,
            ranker_rank,
            is_below,
            case
                when $hard_top then draw < candidates and number = draw
                else
                    part_end > part_start
                    and number
                    = part_start + stable_hash($seed, 'hard', sample_id, draw) % greatest(part_end - part_start, 1)
            end as is_drawn
        from parts
    ),
    taken as (
        select sample_id, item_id, score, ranker_rank
        from drawn
        -- counted once a positive, by its first draw
        where case when $hard_has_margin then keep('margin', is_below, '', is_drawn) else is_drawn end
    ),
    spread as (
        select
            sample_id,
            item_id,
            score,
            ranker_rank,
            row_number() over (partition by item_id order by stable_hash($seed, 'item', sample_id), sample_id) as of_item
        from taken
    )
select sample_id, item_id, score as ranker_score, ranker_rank
from spread
where case when $hard_per_item is null then true else keep('per_item', of_item <= $hard_per_item) end
