-- The catalogue: every place that anyone visited. Nothing is known of one but its id.
select distinct item_id
from interactions
