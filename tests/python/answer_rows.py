"""Rows of an answer, read by duckdb or pyarrow: answer_rows.py FORMAT FILE."""

import sys

import duckdb

form, path = sys.argv[1:]
if form == "arrow":
    import pyarrow as pa

    with pa.OSFile(path) as file, pa.ipc.open_stream(file) as stream:
        rows = sum(batch.num_rows for batch in stream)
else:
    read, time = {
        "parquet": ("read_parquet('{}')", "effective"),
        "csv": ("read_csv('{}')", "effective"),
        "ndjson": ("read_json('{}', format = 'newline_delimited', columns = {{effective_ms: 'BIGINT'}})", "effective_ms"),
    }[form]
    [(rows, times)] = duckdb.sql(f"select count(*), count({time}) from {read.format(path)}").fetchall()
    assert rows == times, (rows, times)
print(rows)
