-- For each place the places that share the most visitors with it, nearest first, and how near each is.
with
visitors as (
    select item_id, count(*) as n
    from liked
    group by item_id
),

-- visitors that two places share. One of them tells a model which row it comes from, so only further ones count
shared as (
    select a.item_id, b.item_id as neighbour, count(*) - 1 as n
    from liked as a
    inner join liked as b on a.user_id = b.user_id
    where a.item_id <> b.item_id
    group by a.item_id, b.item_id
    having count(*) > 1
),

scored as (
    select
        s.item_id,
        s.neighbour,
        s.n / (power(a.n, $neighbour_power) * power(b.n, 1 - $neighbour_power)) as nearness
    from shared as s
    inner join visitors as a on s.item_id = a.item_id
    inner join visitors as b on s.neighbour = b.item_id
),

placed as (
    select
        item_id,
        neighbour,
        nearness,
        row_number() over (
            partition by item_id
            order by nearness desc, stable_hash($seed, item_id, neighbour), neighbour
        ) as place
    from scored
)

select
    item_id,
    array_agg(neighbour order by place) as neighbours,
    array_agg(nearness order by place) as nearness
from placed
where place <= $neighbours
group by item_id
