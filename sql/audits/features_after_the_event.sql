-- Features must have been known at the time of the event. Runs where `positives` says since when they were: `features_time`.
select sample_id, user_id, event_time, features_time
from positives
where features_time > event_time
