-- What evaluation leaves out: the user's own training places.
select user_id, item_id
from interactions
