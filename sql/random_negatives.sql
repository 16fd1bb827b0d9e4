-- Items drawn from the whole catalogue for each positive, without what its user was shown or liked.
with
    events as (
        select user_id, item_id, cast(null as bigint) as sample_id
        from impressions
        union all
        select user_id, item_id, sample_id
        from positives
    ),
    -- one row a user: his positives, and what he knows, which is no random item
    users as (
        select
            array_agg(sample_id) filter (where sample_id is not null) as samples,
            array_agg(item_id) as known
        from events
        group by user_id
    ),
    -- one row a positive: what was drawn for it, as numbers of items. Sorted rows must not hold lists that they are cut from
    drawn as (
        select
            unnest(own_list(samples)) as sample_id,
            unnest(sample_unknown(stable_hash($seed, 'random'), samples, known, $random_per_positive)) as numbers
        from users
        where samples is not null
    ),
    draws as (
        select sample_id, unnest(own_list(numbers)) as number
        from drawn
    )
select sample_id, corpus_item(number) as item_id, corpus_probability(number) as sampling_probability
from draws
