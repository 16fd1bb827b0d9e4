-- The catalogue: every item that is embedded and indexed.
select *
from items
