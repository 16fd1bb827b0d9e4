-- What evaluation must find: the benchmark's own test split.
select user_id, item_id
from test
