-- For the stages after training. The measurement has none: one user is as good as all.
select user_id, history
from clicks
limit 1
