-- One movie for each rating, drawn evenly from all. Whom a batch shares it with does not meet it where he rated it; if what a user rated
-- were left out of his draws too, what many have rated would be no negative often enough.
with
catalogue as (
    select item_id, row_number() over (order by item_id) - 1 as number
    from item_features
),
drawn as (
    select
        positives.sample_id,
        abs(stable_hash($seed, 'random', positives.sample_id) % total.movies) as number,
        1.0 / total.movies as sampling_probability
    from positives
    cross join (select count(*) as movies from item_features) as total
)

select drawn.sample_id, catalogue.item_id, drawn.sampling_probability
from drawn
inner join catalogue on drawn.number = catalogue.number
