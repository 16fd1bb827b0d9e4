-- The random negatives for one positive must be about as many as configured.
with
    counted_positives as (
        select count(*) as positives
        from positives
    ),
    counted_negatives as (
        select count(*) as negatives
        from random_negatives
    )
select
    positives,
    negatives,
    cast(negatives as double) / positives as found,
    $random_per_positive as configured
from counted_positives
cross join counted_negatives
where abs(cast(negatives as double) / positives - $random_per_positive) > $ratio_change * $random_per_positive
