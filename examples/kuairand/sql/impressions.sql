-- The logs under the names that the built-in SQL knows. An item of the earlier histories counts as shown and clicked.
select user_id, item_id, to_timestamp_millis(ts_ms) as event_time, is_click = 1 as clicked
from events

union all

select
    cast(user_id as bigint) as user_id,
    cast(item_id as bigint) as item_id,
    to_timestamp_millis(1650672000000 + 1000 * cast(seq_pos as bigint)) as event_time,
    true as clicked
from history_positives
