-- What a user has had already: evaluation and `recommend` leave it out.
select distinct user_id, item_id
from liked
where not held_out
