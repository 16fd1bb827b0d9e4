-- Clicks after the date: what evaluation must find. What the user had liked before is too easy to count.
with
    clicks as (
        select distinct user_id, item_id
        from future_impressions
        where clicked
    )
select c.user_id, c.item_id
from clicks as c
left anti join positives as p on c.user_id = p.user_id and c.item_id = p.item_id
