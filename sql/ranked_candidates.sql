-- Each user's candidates with the score that the configured ranker gives them: hard negatives take the middle of it.
select
    c.user_id,
    c.item_id,
    -- the ranker of `samples.hard_negatives` with the columns that its inputs name
    hard_ranker() as score
from user_features as u
join (
    item_features as i
    -- the source `candidates`, or `previous_candidates` where there is none
    join ranking_candidates as c on c.item_id = i.item_id
) on c.user_id = u.user_id
