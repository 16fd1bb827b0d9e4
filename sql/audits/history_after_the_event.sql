-- A history must hold nothing that its user clicked only after the event, nor the very item of the event.
with
    -- a leak in the SQL is one in all samples, so those of some users are enough: about a million samples
    share as (
        select count(*) / 1000000 + 1 as one_in
        from positives
    ),
    looked_at as (
        select p.sample_id, p.user_id, p.item_id as own_item, p.event_time, $history as history
        from positives as p
        cross join share as s
        where stable_hash($seed, 'audit', p.user_id) % s.one_in = 0
    ),
    held as (
        select sample_id, user_id, own_item, event_time, unnest(history) as item_id
        from looked_at
    ),
    first_clicks as (
        select user_id, item_id, min(event_time) as first_click
        from positives
        group by user_id, item_id
    )
select h.sample_id, h.user_id, h.event_time, h.item_id, f.first_click
from first_clicks as f
join held as h on f.user_id = h.user_id and f.item_id = h.item_id
where f.first_click > h.event_time or (f.first_click = h.event_time and h.item_id = h.own_item)
