-- What evaluation looks for must not stand in the history of a sample either: training would have seen it.
with
    histories_of_users as (
        select p.sample_id, p.user_id, h.item_id, $history as history
        from holdout as h
        join positives as p on p.user_id = h.user_id
    )
select sample_id, user_id, item_id
from histories_of_users
where array_has(history, item_id)
