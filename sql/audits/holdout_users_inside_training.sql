-- Of a user whose last day is held out, nothing of that day may be taught. Runs with the built-in `liked` and `holdout` only.
with
    held_out_users as (
        select distinct user_id
        from holdout
    )
select p.sample_id, p.user_id, p.item_id, p.event_time
from held_out_users as h
right semi join positives as p on p.user_id = h.user_id
where p.event_time >= $date and $holdout_share > 0
