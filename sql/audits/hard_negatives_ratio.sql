-- The random negatives for one hard negative must be about as many as configured.
with
    counted_random as (
        select count(*) as random_rows
        from random_negatives
    ),
    counted_hard as (
        select count(*) as hard_rows
        from hard_negatives
    )
select hard_rows, random_rows, cast(random_rows as double) / $random_per_hard as expected_hard_rows
from counted_random
cross join counted_hard
where
    abs(hard_rows - cast(random_rows as double) / $random_per_hard)
    -- less than one row says nothing
    > greatest($ratio_change * random_rows / $random_per_hard, 1)
