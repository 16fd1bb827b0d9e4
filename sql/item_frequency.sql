-- How often each item of the catalogue was shown and liked, and how often it is drawn as a random negative.
with
    liked_counts as (
        select item_id, count(*) as positives
        from positives
        group by item_id
    ),
    shown_counts as (
        select item_id, count(*) as impressions
        from impressions
        group by item_id
    )
select
    i.item_id,
    coalesce(l.positives, 0) as positives,
    coalesce(s.impressions, 0) as impressions,
    -- one more, so that items without a click are drawn too
    power(cast(coalesce(l.positives, 0) + 1 as double), $random_power) as sampling_weight
from item_features as i
left join liked_counts as l on l.item_id = i.item_id
left join shown_counts as s on s.item_id = i.item_id
