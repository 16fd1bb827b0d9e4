-- Every item that a user clicked, once, with the time of the first click: the positives, the histories and what is masked.
with
-- these have no time, only an order, and all lie before the first day of events
earlier as (
    select
        cast(user_id as bigint) as user_id,
        cast(item_id as bigint) as item_id,
        -- the second `seq_pos` after midnight of 2022-04-23
        to_timestamp_millis(1650672000000 + 1000 * cast(seq_pos as bigint)) as event_time
    from history_positives
),

clicks as (
    select user_id, item_id, to_timestamp_millis(ts_ms) as event_time
    from events
    where is_click = 1
),

every as (
    select * from earlier
    union all
    select * from clicks
)

-- a second click teaches nothing new, and would put the item into its own history
select user_id, item_id, min(event_time) as event_time
from every
group by user_id, item_id
