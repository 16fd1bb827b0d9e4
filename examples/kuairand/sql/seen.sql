-- What evaluation and `recommend` leave out: what the user clicked. What was shown and not clicked may come again.
select user_id, item_id
from liked
