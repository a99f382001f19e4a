"""DuckDB on the store's own files: the questions of the bench, and a copy of the rows by its writer.

Reads one JSON object from standard input and prints one; see beside.rs for both.
"""

import json
import os
import sys
import time
from pathlib import Path

import duckdb

ORDER = {
    "station_status": "station, effective",
    "water_interval": "imei, interval_end",
}


class Timed:
    """How many ms questions took, by the clock and of the processor (all threads)."""

    def __init__(self):
        self.ms, self.cpu_ms = [], []

    def ask(self, question):
        since, cpu = time.perf_counter(), time.process_time()
        answer = question()
        self.ms.append((time.perf_counter() - since) * 1000)
        self.cpu_ms.append((time.process_time() - cpu) * 1000)
        return answer

    def told(self, rows):
        return {"ms": self.ms, "cpu_ms": self.cpu_ms, "rows": rows}


def columns(con, folder):
    """Bytes of each column's chunks, and of all files."""
    found = con.execute(
        "select path_in_schema, sum(total_compressed_size)"
        f" from parquet_metadata('{folder}/*/*.parquet') group by all"
    ).fetchall()
    files = [path.stat().st_size for path in folder.glob("*/*.parquet")]
    # The items of a list stand below it.
    rows = con.execute(f"select count(*) from '{folder}/*/*.parquet'").fetchone()[0]
    return {"files": len(files), "rows": rows, "bytes": sum(files),
            "columns": {name.split(",")[0]: int(size) for name, size in found}}


def copied(con, folder, table, scratch):
    """Bytes of the same rows as DuckDB writes them, a file a day, sorted alike."""
    total = 0
    order = ORDER.get(table, "imei, effective")
    target = Path(scratch) / "copy.parquet"
    for day in sorted(folder.iterdir()):
        con.execute(
            f"copy (select * from read_parquet('{day}/*.parquet', hive_partitioning = false)"
            f" order by {order}) to '{target}' (format parquet, compression zstd)"
        )
        total += target.stat().st_size
        os.remove(target)
    return total


def main():
    asked = json.load(sys.stdin)
    store = Path(asked["store"])
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    con.execute(f"set temp_directory = '{asked['scratch']}'")
    tables = sorted(folder for folder in store.glob("kind=*") if any(folder.glob("*/*.parquet")))
    answer = {"version": duckdb.__version__, "tables": {}}
    for folder in tables:
        table = folder.name.split("=", 1)[1]
        answer["tables"][table] = columns(con, folder)

    def rows_of(kind):
        return f"read_parquet('{store}/kind={kind}/*/*.parquet', hive_partitioning = true)"

    for name in ["hour", "day"]:
        span = asked[name]
        timed, rows = Timed(), 0
        for device in asked["devices"]:
            # Into a table of its own, not into Python's objects: those would be most of the time.
            sql = (
                f"create or replace temp table found as select * from {rows_of(device['kind'])}"
                f" where date between '{span['dates'][0]}' and '{span['dates'][1]}'"
                f" and imei = {device['imei']}"
                f" and effective >= make_timestamptz({span['from_us']})"
                f" and effective < make_timestamptz({span['to_us']})"
            )
            timed.ask(lambda sql=sql: con.execute(sql))
            rows += con.execute("select count(*) from found").fetchone()[0]
        answer[name] = timed.told(rows)

    mean = asked["mean"]
    sql = (
        f"select epoch_ms(time_bucket(interval 1 hour, effective)) as hour, avg({mean['field']}),"
        f" count({mean['field']}) from {rows_of(mean['kind'])} where date = '{asked['day']['dates'][0]}'"
        " group by hour order by hour"
    )
    timed = Timed()
    for _ in range(5):
        found = timed.ask(lambda: con.execute(sql).fetchall())
    answer["mean"] = timed.told(sum(row[2] for row in found))
    answer["mean"]["hours"] = [[row[1], row[2]] for row in found]

    def latest():
        found = 0
        for folder in tables:
            kind = folder.name.split("=", 1)[1]
            if kind != "water_interval":
                key = "station" if kind == "station_status" else "imei"
                con.execute(
                    f"create or replace temp table found as select {key}, max(effective),"
                    f" arg_max(lsn, effective) from {rows_of(kind)} group by {key}"
                )
                found += con.execute("select count(*) from found").fetchone()[0]
        return found

    timed = Timed()
    answer["latest"] = timed.told(timed.ask(latest))
    for folder in tables:
        table = folder.name.split("=", 1)[1]
        answer["tables"][table]["copy"] = copied(con, folder, table, asked["scratch"])
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
