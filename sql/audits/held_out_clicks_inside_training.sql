-- A click that is held out must not have been taught: `holdout` leaves out what was, so that alone it looks clean, and empty.
with
    held_out as (
        select distinct user_id, item_id, event_time
        from liked
        where held_out
    )
select p.sample_id, p.user_id, p.item_id, p.event_time
from held_out as h
right semi join positives as p on p.user_id = h.user_id and p.item_id = h.item_id and p.event_time = h.event_time
