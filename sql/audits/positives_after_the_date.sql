-- An event of a later day than the job's own: a clock that runs ahead, or a time that was read wrong.
select sample_id, user_id, item_id, event_time
from positives
where event_time >= $date + interval '1 day'
