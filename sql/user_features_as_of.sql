-- Every user as a service would see him at the end of the day, with the newest features of `users` that are known then.
with
    -- since when each row of `users` is known: those of a day's partition from its end on
    versions as (
        select
            *,
            cast($users_time as timestamp(6))
            + case when $users_by_day then interval '1 day' else interval '0 days' end as features_time
        from users
    ),
    -- two rows of one moment both stay: which of them holds is not for this file to guess, and the job says so
    by_age as (
        select *, rank() over (partition by user_id order by features_time desc) as age_of_version
        from versions
        where features_time <= cast($date as timestamp(6)) + interval '1 day'
    ),
    newest_version as (
        select *
        from by_age
        where age_of_version = 1
    ),
    histories as (
        select
            user_id,
            array_slice(array_agg(item_id order by event_time desc, item_id desc), 1, $history_length) as history
        from liked
        where not held_out
        group by user_id
    )
select
    coalesce(u.user_id, h.user_id) as user_id,
    coalesce(h.history, make_array()) as history,
    u.* except (user_id, features_time, age_of_version)
from newest_version as u
full join histories as h on u.user_id = h.user_id
