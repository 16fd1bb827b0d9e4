-- The ratings under the names that the built-in SQL knows. Neither times nor stars are in the data: what was rated is liked.
select user_id, item_id, timestamp '2003-02-28 00:00:00' as event_time, true as clicked
from ratings
