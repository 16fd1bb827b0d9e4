-- One row for each visit. The user is who he is after all of his other visits: with the place to be found among his own, training would
-- mostly learn to find a place in a list that holds it, and nobody's list does when he is served.
with placed as (
    select
        interactions.user_id,
        interactions.item_id,
        user_features.history,
        user_features.history_weights,
        cast(array_position(user_features.history, interactions.item_id) as bigint) as place,
        cast(array_length(user_features.history) as bigint) as places
    from interactions
    inner join user_features on interactions.user_id = user_features.user_id
)

select
    stable_hash($seed, user_id, item_id) as sample_id,
    user_id,
    item_id,
    timestamp '2010-10-31 00:00:00' as event_time,
    array_concat(array_slice(history, 1, place - 1), array_slice(history, place + 1, places)) as history,
    array_concat(array_slice(history_weights, 1, place - 1), array_slice(history_weights, place + 1, places)) as history_weights
from placed
