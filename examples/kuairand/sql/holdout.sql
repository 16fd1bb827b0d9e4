-- What evaluation must find: items clicked on the two days after the date, for the first time, by users with a past.
with
-- several clicks on an item are one thing to find
clicked as (
    select distinct user_id, item_id
    from future_events
    where is_click = 1
),

known_users as (
    select distinct user_id from liked
)

select clicked.user_id, clicked.item_id
from clicked
inner join known_users on clicked.user_id = known_users.user_id
left join liked on clicked.user_id = liked.user_id and clicked.item_id = liked.item_id
where liked.item_id is null
