-- A column that is mostly null teaches nothing: a join that found no partner, or a source that changed.
select table_name, column_name, nulls, rows
from measured_columns
where table_name in ('positives', 'user_features', 'item_features') and nulls > $null_share * rows
