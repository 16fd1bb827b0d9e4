-- Clicks of the window, one row a click, and which of them are kept from training to evaluate it.
with
    -- logs repeat lines: one click of an item at one instant counts once
    clicks as (
        select distinct user_id, item_id, event_time
        from impressions
        where clicked
    )
select
    user_id,
    item_id,
    event_time,
    -- the last day of a share of the users, chosen by hash so that a rerun chooses the same
    event_time >= $date and stable_hash($seed, 'holdout', user_id) % 1000000 < $holdout_share * 1000000 as held_out
from clicks
