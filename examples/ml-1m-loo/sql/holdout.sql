-- What evaluation must find: each user's last rating.
select user_id, item_id
from test
