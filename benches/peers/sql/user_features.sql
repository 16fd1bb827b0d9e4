-- Every user, for the stages after training. The comparison has none: two clicks are as good as all.
select user_id, make_array(min(item_id), max(item_id)) as history
from clicks
group by user_id
