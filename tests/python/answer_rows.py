"""Rows of an answer, read by duckdb or pyarrow: answer_rows.py FORMAT FILE."""

import sys

import duckdb

form, path = sys.argv[1:]
if form == "arrow":
    import pyarrow as pa

    with pa.OSFile(path) as file, pa.ipc.open_stream(file) as stream:
        rows = sum(batch.num_rows for batch in stream)
else:
    read = {"parquet": "read_parquet", "csv": "read_csv", "ndjson": "read_json"}[form]
    rows = duckdb.sql(f"select count(*), count(effective{'_ms' if form == 'ndjson' else ''}) from {read}('{path}')")
    rows, times = rows.fetchone()
    assert rows == times, (rows, times)
print(rows)
