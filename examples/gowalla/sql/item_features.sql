-- The catalogue: every place that anyone visited, with its visitors and the weights of the links to them.
select
    item_id,
    array_agg(user_id order by tie, user_id) as visitors,
    array_agg(weight order by tie, user_id) as visitor_weights
from links
group by item_id
