-- No evaluation, no mask.
select user_id, item_id
from clicks
where false
