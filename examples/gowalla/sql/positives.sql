-- One row for each visit. The user is who he is after all of his visits, the one to be found among them: both towers see the whole
-- graph of visits, as graph convolutions do.
select
    stable_hash($seed, interactions.user_id, interactions.item_id) as sample_id,
    interactions.user_id,
    interactions.item_id,
    timestamp '2010-10-31 00:00:00' as event_time,
    user_features.history,
    user_features.history_weights
from interactions
inner join user_features on interactions.user_id = user_features.user_id
