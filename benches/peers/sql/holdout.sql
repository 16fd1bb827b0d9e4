-- Nothing is held out: the comparison ends with training.
select user_id, item_id
from clicks
where false
