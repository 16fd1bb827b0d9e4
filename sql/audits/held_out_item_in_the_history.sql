-- What evaluation looks for must not stand in its user's history: finding it would be no feat, and training would have seen it.
with
    users_now as (
        select h.user_id, h.item_id, $history as history
        from holdout as h
        join user_features as u on u.user_id = h.user_id
    )
select user_id, item_id
from users_now
where array_has(history, item_id)
