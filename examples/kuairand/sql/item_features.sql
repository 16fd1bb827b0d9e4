-- The whole catalogue. Upload dates are left out: all of these videos are of the same three days.
select
    item_id,
    author_id,
    string_to_array(tag, ',') as tags,
    upload_type,
    cast(music_type as bigint) as music_type,
    video_duration / 1000 as seconds
from items
