-- The 99 movies that the benchmark ranks it among.
select user_id, item_id
from candidates
