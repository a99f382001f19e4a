//! Rows to InfluxDB line protocol, per point: `cargo bench --bench line_protocol`.

#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loushan_ingest::sink::influx::line_protocol::write_row;
use loushan_schemas::kind::Kind;
use loushan_schemas::sample;

fn line_protocol(c: &mut Criterion) {
    let mut group = c.benchmark_group("line_protocol");
    let mut out = Vec::with_capacity(1 << 20);
    for kind in Kind::ALL {
        let rows: Vec<_> = (0..1000).map(|n| sample::row(kind, n)).collect();
        group.throughput(Throughput::Elements(rows.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(kind), |b| {
            b.iter(|| {
                out.clear();
                rows.iter().map(|row| write_row(row, &mut out)).sum::<usize>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, line_protocol);
criterion_main!(benches);
