-- Items of the middle of a user's ranking that he did not like, for each of `hard_positives`.
with
    chosen_users as (
        select distinct user_id
        from hard_positives
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
        -- what the ranker could not score has no rank
        where keep('no_score', r.score is not null and not isnan(cast(r.score as double)))
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
    -- one row a user: what was scored for him, best first
    lists as (
        select
            user_id,
            count(*) as scored,
            array_agg(
                named_struct('item_id', item_id, 'score', score, 'is_new', is_new, 'is_known', is_known)
                order by score desc, tie
            ) as items
        from marked
        group by user_id
    ),
    ranked as (
        select user_id, unnest(items) as item, unnest(range(1, scored + 1)) as ranker_rank
        from lists
    ),
    candidates as (
        select
            user_id,
            array_agg(
                named_struct('item_id', item['item_id'], 'score', item['score'], 'ranker_rank', ranker_rank)
                order by ranker_rank
            ) as items
        from ranked
        -- `keep` counts what each rule leaves out
        where
            keep(
                'rank', ranker_rank between $hard_rank_from and $hard_rank_to,
                'liked', item['is_new'],
                'catalogue', item['is_known'],
                'score', ($hard_min_score is null or item['score'] >= $hard_min_score)
                    and ($hard_max_score is null or item['score'] <= $hard_max_score)
            )
        group by user_id
    ),
    -- the highest score that a negative of this positive may have; planned away where no margin is set
    ceilings as (
        select
            c.sample_id,
            max(
                r.score
                - greatest(coalesce($hard_margin, 0.0), coalesce($hard_relative_margin, 0.0) * abs(r.score))
            ) as ceiling
        from hard_positives as c
        join hard_scores as r on c.user_id = r.user_id and c.item_id = r.item_id
        where $hard_has_margin and not isnan(cast(r.score as double))
        group by c.sample_id
    ),
    samples_of_users as (
        select user_id, array_agg(sample_id) as samples
        from hard_positives
        group by user_id
    ),
    -- what each user's positives draw from together, or with a margin each positive for itself
    offered as (
        select s.samples, u.items
        from samples_of_users as s
        join candidates as u on s.user_id = u.user_id
        where not $hard_has_margin
        union all
        select make_array(sample_id) as samples, array_agg(item order by item['ranker_rank']) as items
        from (
            select s.sample_id, c.ceiling, unnest(u.items) as item
            from hard_positives as s
            join candidates as u on s.user_id = u.user_id
            left join ceilings as c on s.sample_id = c.sample_id
        )
        where $hard_has_margin and keep('margin', coalesce(item['score'] <= ceiling, false))
        group by sample_id
    ),
    -- one row a positive: the first of its candidates, or one of each of as many parts of them as there are draws
    drawn as (
        select
            unnest(samples) as sample_id,
            unnest(sample_parts(stable_hash($seed, 'hard'), samples, items, $hard_per_positive, $hard_top)) as items
        from offered
    ),
    draws as (
        select sample_id, unnest(items) as item
        from drawn
    ),
    taken as (
        select sample_id, item['item_id'] as item_id, item['score'] as score, item['ranker_rank'] as ranker_rank
        from draws
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
