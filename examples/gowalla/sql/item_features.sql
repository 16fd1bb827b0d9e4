-- The catalogue: every place that anyone visited, with its visitors, the weights of the links to them, and how popular it is.
select
    item_id,
    array_agg(user_id order by tie, user_id) as visitors,
    array_agg(weight order by tie, user_id) as visitor_weights,
    ln(1 + count(*)) as log_visitors
from links
group by item_id
