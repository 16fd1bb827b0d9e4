#!/usr/bin/env python3
"""Builds the sample tables with one of the peers and prints a line of JSON: rows and seconds of each table.

    python3 peer.py duckdb|spark LOGS OUT MEMORY_GIB THREADS
"""

import json
import pathlib
import sys
import time

import tables

SOURCES = ["impressions", "items", "users", "ranker_scores"]


def duckdb_engine(logs, out, memory, threads):
    import duckdb

    connection = duckdb.connect(config={"threads": threads, "memory_limit": f"{memory}GiB", "temp_directory": str(out / "spill")})
    # a table's rows are ordered where its query says so
    connection.execute("set preserve_insertion_order = false")
    for source in SOURCES:
        connection.execute(f"create view {source} as select * from read_parquet('{logs}/{source}/*/*.parquet')")

    def build(name, query):
        connection.execute(f"copy ({query}) to '{out}/{name}.parquet' (format parquet, compression zstd)")
        connection.execute(f"create view {name} as select * from '{out}/{name}.parquet'")
        return connection.execute(f"select count(*) from {name}").fetchall()[0][0]

    return tables.DuckDB, build


def spark_engine(logs, out, memory, threads):
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master(f"local[{threads}]")
        .config("spark.driver.memory", f"{memory}g")
        .config("spark.sql.shuffle.partitions", str(16 * threads))
        .config("spark.local.dir", str(out / "spill"))
        .config("spark.ui.enabled", "false")
        .config("spark.sql.parquet.compression.codec", "zstd")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    for source in SOURCES:
        session.read.parquet(f"{logs}/{source}").createOrReplaceTempView(source)

    def build(name, query):
        session.sql(query).write.parquet(f"{out}/{name}")
        written = session.read.parquet(f"{out}/{name}")
        written.createOrReplaceTempView(name)
        return written.count()

    return tables.Spark, build


def main():
    engine = {"duckdb": duckdb_engine, "spark": spark_engine}[sys.argv[1]]
    logs, out = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    (out / "spill").mkdir(parents=True)
    dialect, build = engine(logs, out, int(sys.argv[4]), int(sys.argv[5]))
    built = {}
    for name, query in tables.tables(dialect).items():
        began = time.monotonic()
        rows = build(name, query)
        built[name] = {"rows": rows, "seconds": time.monotonic() - began}
    print(json.dumps(built))


if __name__ == "__main__":
    main()
