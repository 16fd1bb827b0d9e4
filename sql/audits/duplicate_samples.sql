-- One click must not be taught twice.
select user_id, item_id, event_time, count(*) as copies
from positives
group by user_id, item_id, event_time
having count(*) > 1
