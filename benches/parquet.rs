//! Rows to the bytes of a Parquet file, per row: `cargo bench --bench parquet`.

#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loushan_ingest::sink::embedded::encode_readings;
use loushan_schemas::kind::Kind;
use loushan_schemas::sample;

fn parquet(c: &mut Criterion) {
    let mut group = c.benchmark_group("parquet_encode");
    group.sample_size(10);
    for kind in Kind::ALL {
        let rows: Vec<_> = (0..20_000).map(|n| sample::row(kind, n)).collect();
        let rows: Vec<_> = rows.iter().collect();
        group.throughput(Throughput::Elements(rows.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(kind), |b| {
            b.iter(|| encode_readings(kind, &rows).unwrap().len());
        });
    }
    group.finish();
}

criterion_group!(benches, parquet);
criterion_main!(benches);
