-- One row a click, with what the user had clicked before it and the features of `users`.
with
    -- each click's place among those of its user, counted from 0, and how many he had made before that instant: clicks of one
    -- instant must not see each other
    placed as (
        select
            user_id,
            item_id,
            event_time,
            -- unsigned numbers mixed with a BIGINT would turn into decimals
            cast(row_number() over (partition by user_id order by event_time, item_id) as bigint) - 1 as place,
            cast(rank() over (partition by user_id order by event_time) as bigint) - 1 as earlier
        from liked
        where not held_out
    ),
    -- clicks in blocks of one history's length: what a history holds lies in two blocks, however many clicks a user has
    blocks as (
        select user_id, place / $history_length as block, array_agg(item_id order by place) as items
        from placed
        group by user_id, place / $history_length
    ),
    pairs as (
        select
            user_id,
            block,
            array_concat(coalesce(before, make_array()), items) as items,
            -- a block that has another after it is full
            case when before is null then 0 else $history_length end as before
        from (
            select user_id, block, items, lag(items) over (partition by user_id order by block) as before
            from blocks
        )
    ),
    -- of the block with the last click before, and the block before that one, the newest clicks, newest first
    samples as (
        select
            p.user_id,
            p.item_id,
            p.event_time,
            array_reverse(
                array_slice(
                    b.items,
                    greatest(b.before + (p.earlier - 1) % $history_length + 2 - $history_length, 1),
                    b.before + (p.earlier - 1) % $history_length + 1
                )
            ) as history
        from pairs as b
        right join placed as p
            on b.user_id = p.user_id
            and b.block = case when p.earlier > 0 then (p.earlier - 1) / $history_length end
    )
select
    stable_hash($seed, s.user_id, s.item_id, s.event_time) as sample_id,
    s.user_id,
    s.item_id,
    s.event_time,
    coalesce(s.history, make_array()) as history,
    u.* except (user_id)
from users as u
right join samples as s on u.user_id = s.user_id
