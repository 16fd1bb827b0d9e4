-- Nothing is held out: the measurement ends with training.
select user_id, item_id
from clicks
where false
