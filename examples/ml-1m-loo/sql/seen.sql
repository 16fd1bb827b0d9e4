-- What evaluation over all movies leaves out: the user's own training ratings.
select user_id, item_id
from ratings
