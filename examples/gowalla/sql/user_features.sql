-- Every user with his places and the weights of the links to them.
select
    user_id,
    array_agg(item_id order by tie, item_id) as history,
    array_agg(weight order by tie, item_id) as history_weights
from links
group by user_id
