-- What evaluation looks for must not have been taught.
select h.user_id, h.item_id
from holdout as h
left semi join positives as p on p.user_id = h.user_id and p.item_id = h.item_id
