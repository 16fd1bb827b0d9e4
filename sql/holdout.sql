-- Clicks kept from training: what evaluation must find. What the user had liked before is too easy to count.
with
    held_out as (
        select distinct user_id, item_id
        from liked
        where held_out
    )
select h.user_id, h.item_id
from held_out as h
left anti join positives as p on h.user_id = p.user_id and h.item_id = p.item_id
