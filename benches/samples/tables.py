"""The built-in sample tables as another team would write them for DuckDB or Spark: the same rows by the same rules, with each engine's own
hash in place of `stable_hash`, so that what is drawn differs and how much is drawn does not."""

SEED, HISTORY, RANDOM, POWER = 17, 50, 10, 0.5
RANK_FROM, RANK_TO, RANDOM_PER_HARD, HARD = 101, 500, 100, 2
# Slots for each item, on average, of the list that random negatives are drawn from: as many as its weight asks for, and at least one.
SLOTS = 8


def tables(dialect):
    """SQL by table, in the order in which they are built; each may read those before it. Rows of what training reads are shuffled by
    hash, as twotower's are. Writing the rest in the order of its hash serves the same readers."""
    h, d = dialect.hash, dialect
    return {
        "liked": "select distinct user_id, item_id, event_time from impressions where clicked",
        "positives": f"""
            with moments as (
                select user_id, event_time, {d.list_in_order} as items
                from liked group by user_id, event_time
            ), histories as (
                select user_id, event_time, items, {d.collect('items')} over (
                    partition by user_id order by event_time rows between {HISTORY} preceding and 1 preceding) as earlier
                from moments
            ), samples as (
                select user_id, event_time, {d.unnest('items')} as item_id, {d.newest('earlier', HISTORY)} as history
                from histories
            )
            select {h(SEED, 's.user_id', 's.item_id', 's.event_time')} as sample_id,
                s.user_id, s.item_id, s.event_time, s.history, u.age, u.country
            from samples as s left join users as u on u.user_id = s.user_id
            order by {h(SEED, 'sample_id')}""",
        "item_features": f"select * from items order by {h(SEED, 'item_id')}",
        "item_frequency": f"""
            with liked_counts as (select item_id, count(*) as n from positives group by item_id),
            shown_counts as (select item_id, count(*) as n from impressions group by item_id)
            select i.item_id, coalesce(l.n, 0) as positives, coalesce(s.n, 0) as impressions,
                power(coalesce(l.n, 0) + 1.0, {POWER}) as sampling_weight
            from item_features as i
            left join liked_counts as l on l.item_id = i.item_id
            left join shown_counts as s on s.item_id = i.item_id
            order by {h(SEED, 'i.item_id')}""",
        "slots": f"""
            with counted as (
                select item_id, cast(greatest(1, round(
                    {SLOTS} * sampling_weight / (select avg(sampling_weight) from item_frequency))) as bigint) as n
                from item_frequency
            ), repeated as (select item_id, {d.unnest_range('n')} as copy from counted)
            select item_id, row_number() over (order by item_id, copy) - 1 as slot from repeated""",
        "random_negatives": f"""
            with draws as (
                select sample_id, user_id, {h(SEED, 'sample_id', 'draw')} % (select count(*) from slots) as slot
                from (select sample_id, user_id, {d.unnest_range(RANDOM)} as draw from positives) as expanded
            ), drawn as (
                select sample_id, user_id, item_id from draws join slots on slots.slot = draws.slot
            ), known as (
                select user_id, item_id from impressions union all select user_id, item_id from positives
            ), unknown as (
                select sample_id, item_id from drawn
                where not exists (
                    select 1 from known where known.user_id = drawn.user_id and known.item_id = drawn.item_id)
            )
            select u.sample_id, u.item_id,
                f.sampling_weight / (select sum(sampling_weight) from item_frequency) as sampling_probability
            from unknown as u join item_frequency as f on f.item_id = u.item_id
            order by {h(SEED, 'u.sample_id')}, u.sample_id, u.item_id""",
        "hard_negatives": f"""
            with reached as (
                select user_id from ranker_scores group by user_id having count(*) >= {RANK_FROM}
            ), shuffled as (
                select p.sample_id, p.user_id,
                    row_number() over (order by {h(SEED, "'hard'", 'p.sample_id')}, p.sample_id) as place
                from positives as p join reached as r on r.user_id = p.user_id
            ), chosen as (
                select sample_id, user_id from shuffled
                where place * {HARD * RANDOM_PER_HARD} <= (select count(*) from random_negatives)
            ), scored as (
                select user_id, item_id, score from ranker_scores
                where user_id in (select user_id from chosen)
            ), ranked as (
                select user_id, item_id, score, row_number() over (
                    partition by user_id order by score desc, {h(SEED, 'user_id', 'item_id')}) as ranker_rank
                from scored
            ), candidates as (
                select r.user_id, r.item_id, r.score, r.ranker_rank,
                    row_number() over (partition by r.user_id order by r.ranker_rank) - 1 as number,
                    count(*) over (partition by r.user_id) as candidates
                from ranked as r
                join item_features as i on i.item_id = r.item_id
                where r.ranker_rank between {RANK_FROM} and {RANK_TO}
                    and not exists (select 1 from liked as l where l.user_id = r.user_id and l.item_id = r.item_id)
            ), draws as (
                select sample_id, user_id, {d.unnest_range(HARD)} as draw from chosen
            ), parts as (
                select d.sample_id, d.draw, c.item_id, c.score, c.ranker_rank, c.number,
                    {d.divide('d.draw * c.candidates', HARD)} as part_start,
                    {d.divide('(d.draw + 1) * c.candidates', HARD)} as part_end
                from draws as d join candidates as c on c.user_id = d.user_id
            )
            select sample_id, item_id, score as ranker_score, ranker_rank from parts
            where part_end > part_start
                and number = part_start + {h(SEED, "'hard'", 'sample_id', 'draw')} % greatest(part_end - part_start, 1)
            order by {h(SEED, 'sample_id')}, sample_id, item_id""",
        "seen": f"""
            select user_id, item_id from (select distinct user_id, item_id from liked) as pairs
            order by {h(SEED, 'user_id')}, user_id, item_id""",
        "user_features": f"""
            with newest as (
                select user_id, item_id, row_number() over (
                    partition by user_id order by event_time desc, item_id desc) as place
                from liked
            ), histories as (
                select user_id, {d.list_by_place} as history from newest where place <= {HISTORY} group by user_id
            )
            select coalesce(u.user_id, h.user_id) as user_id, h.history, u.age, u.country
            from users as u full join histories as h on u.user_id = h.user_id
            order by {h(SEED, 'coalesce(u.user_id, h.user_id)')}""",
    }


class DuckDB:
    list_in_order = "list(item_id order by item_id)"
    list_by_place = "list(item_id order by place)"

    @staticmethod
    def hash(*values):
        """A BIGINT that is never negative."""
        return f"(hash({', '.join(map(str, values))}) >> 1)::bigint"

    @staticmethod
    def collect(column):
        return f"list({column})"

    @staticmethod
    def unnest(column):
        return f"unnest({column})"

    @staticmethod
    def unnest_range(count):
        return f"unnest(range({count}))"

    @staticmethod
    def newest(column, count):
        return f"coalesce(list_slice(list_reverse(flatten({column})), 1, {count}), [])"

    @staticmethod
    def divide(value, by):
        return f"({value}) // {by}"


class Spark:
    list_in_order = "array_sort(collect_list(item_id))"
    list_by_place = "transform(array_sort(collect_list(struct(place, item_id))), pair -> pair.item_id)"

    @staticmethod
    def hash(*values):
        return f"shiftrightunsigned(xxhash64({', '.join(map(str, values))}), 1)"

    @staticmethod
    def collect(column):
        return f"collect_list({column})"

    @staticmethod
    def unnest(column):
        return f"explode({column})"

    @staticmethod
    def unnest_range(count):
        return f"explode(sequence(cast(0 as bigint), cast({count} as bigint) - 1))"

    @staticmethod
    def newest(column, count):
        return f"slice(reverse(flatten({column})), 1, {count})"

    @staticmethod
    def divide(value, by):
        return f"({value}) div {by}"
