-- Every user who rated anything, with what is known of him.
select users.*
from users
where user_id in (select user_id from ratings)
