-- What is known of a user beside his clicks. Written here once, read by `positives` and `user_features`.
select
    user_id,
    user_active_degree as active_degree,
    is_video_author = 1 as is_author,
    follow_user_num as follows,
    fans_user_num as fans,
    friend_user_num as friends,
    register_days,
    -- encrypted attributes of few values; the meaning is not published
    onehot_feat0, onehot_feat1, onehot_feat6, onehot_feat9, onehot_feat10, onehot_feat11
from users
