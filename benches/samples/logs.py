#!/usr/bin/env python3
"""Writes logs of a chosen size for the benchmark of the sample tables.

    python3 logs.py FOLDER IMPRESSIONS

Seven days of impressions by a hundredth as many users on half as many items as users, one in twenty clicked; as many scores of a ranker as
impressions, 500 for each of the users that have any. Items are drawn log-uniformly, which is Zipf's law with exponent 1; users unevenly too.
Every value is a hash of its row's number, so the same arguments give the same rows.
"""

import datetime
import pathlib
import sys

import duckdb

DAYS, LAST = 7, "2026-11-20"
RANKED = 500


def write(out, impressions):
    """Parquet files below `out`, in folders by date; a folder that is there is taken as it is."""
    users = max(impressions // 100, 1000)
    items = users // 2
    ranked_users = max(impressions // RANKED, 1)
    connection = duckdb.connect()
    # a number in [0, 1) from a row's number and a column's
    connection.execute("create macro u(row, col) as (hash(row * 16 + col) >> 11) / 9007199254740992.0")

    def table(name, date, query):
        folder = out / name / f"dt={date}"
        if (folder / "_SUCCESS").exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        connection.execute(f"copy ({query}) to '{folder}/part-00000.parquet' (format parquet, compression zstd)")
        (folder / "_SUCCESS").touch()

    for day in range(DAYS):
        date = datetime.date.fromisoformat(LAST) - datetime.timedelta(days=DAYS - 1 - day)
        first, after = impressions * day // DAYS, impressions * (day + 1) // DAYS
        table("impressions", date, f"""
            select
                (1001 + floor({users} * pow(u(n, 1), 1.5)))::bigint as user_id,
                (1001 + floor(exp(u(n, 2) * ln({items})) - 1))::bigint as item_id,
                timestamp '{date} 00:00:00' + to_microseconds((u(n, 3) * 86400e6)::bigint) as event_time,
                u(n, 4) < 0.05 as clicked
            from range({first}, {after}) as rows (n)""")
    table("items", LAST, f"""
        select 1001 + n as item_id, 'category_' || hash(n * 16 + 5) % 50 as category, 100 * u(n, 6) as price
        from range({items}) as rows (n)""")
    table("users", LAST, f"""
        select 1001 + n as user_id, 18 + (hash(n * 16 + 7) % 60)::bigint as age, 'country_' || hash(n * 16 + 8) % 30 as country
        from range({users}) as rows (n)""")
    # items of one user differ: an odd step through the catalogue from a start of his own
    table("ranker_scores", LAST, f"""
        select
            1001 + (n // {RANKED}) * {users} // {ranked_users} as user_id,
            (1001 + (hash(n // {RANKED} * 16 + 9) % {items} + (n % {RANKED}) * 7919) % {items})::bigint as item_id,
            u(n, 10)::float as score
        from range({ranked_users * RANKED}) as rows (n)""")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
