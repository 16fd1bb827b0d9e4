-- Items that a positive's user was shown in the window and never clicked: an extra source, never the only one.
with
    -- a click in another showing, also a held-out one, says that he likes it
    liked_pairs as (
        select distinct user_id, item_id
        from liked
    ),
    shown as (
        select distinct user_id, item_id
        from impressions
        where not clicked
    ),
    disliked as (
        select s.user_id, s.item_id
        from shown as s
        left anti join liked_pairs as l on s.user_id = l.user_id and s.item_id = l.item_id
    ),
    -- what left the catalogue has no features
    known as (
        select d.user_id, d.item_id
        from item_features as i
        right semi join disliked as d on i.item_id = d.item_id
    ),
    numbered as (
        select
            user_id,
            item_id,
            -- row_number is unsigned, and mixed with a BIGINT it would turn into a decimal
            cast(
                row_number() over (partition by user_id order by stable_hash($seed, 'shown', user_id, item_id), item_id) as bigint
            ) - 1 as place,
            count(*) over (partition by user_id) as items
        from known
    ),
    draws as (
        select sample_id, user_id, unnest(range(0, $shown_per_positive)) as draw
        from positives
    )
-- as many neighbours in the user's order as there are draws, from a place of the positive's own: never one twice
select d.sample_id, n.item_id
from draws as d
join numbered as n on d.user_id = n.user_id
where d.draw < n.items and n.place = (stable_hash($seed, 'shown', d.sample_id) % n.items + d.draw) % n.items
