"""Opens the embedded store's folder with DuckDB, as an analyst would, and counts.

Prints one JSON object: by kind the rows, the distinct keys, the devices and the column types.

usage: parquet_counts.py STORE_FOLDER
"""

import json
import sys
from pathlib import Path

import duckdb

KEY = {"station_status": "station, session, seq"}
DEVICE_KEY = "imei, boot_epoch, seq, measured"


def main():
    store = Path(sys.argv[1])
    result = {}
    for folder in sorted(store.glob("kind=*")):
        kind = folder.name.split("=", 1)[1]
        files = str(folder / "*" / "*.parquet")
        if not list(folder.glob("*/*.parquet")):
            continue
        table = f"read_parquet('{files}', hive_partitioning = true, union_by_name = true)"
        entry = {"rows": duckdb.sql(f"select count(*) from {table}").fetchall()[0][0]}
        entry["types"] = {
            name: str(kind_) for name, kind_ in
            [(row[0], row[1]) for row in duckdb.sql(f"describe select * from {table}").fetchall()]
        }
        if kind != "water_interval":
            key = KEY.get(kind, DEVICE_KEY)
            entry["distinct"] = duckdb.sql(
                f"select count(*) from (select distinct {key} from {table})"
            ).fetchall()[0][0]
        result[kind] = entry
    print(json.dumps(result))


if __name__ == "__main__":
    main()
