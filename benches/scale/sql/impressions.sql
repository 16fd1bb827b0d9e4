-- The clicks under the names that the built-in SQL knows.
select user_id, item_id, event_time, true as clicked
from clicks
