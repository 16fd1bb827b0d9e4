-- A day with far more or fewer rows than the days before it: logs that came in part or twice, or a change that someone should know of.
with
    compared as (
        select
            counted,
            day,
            rows,
            avg(rows) over (partition by counted order by day rows between 7 preceding and 1 preceding) as usual,
            count(*) over (partition by counted order by day rows between 7 preceding and 1 preceding) as days_before
        from measured_days
    )
select counted, day, rows, usual
from compared
-- fewer days before it are no measure
where days_before >= 3 and abs(rows - usual) > $day_change * usual
