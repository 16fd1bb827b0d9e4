-- One row a click, with the history as the logs give it.
select stable_hash($seed, user_id, item_id, event_time) as sample_id, user_id, item_id, event_time, history
from clicks
