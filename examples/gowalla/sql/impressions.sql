-- The visits under the names that the built-in SQL knows. There is no log of what was shown, so all that is known is liked.
select user_id, item_id, timestamp '2010-10-31 00:00:00' as event_time, true as clicked
from interactions
