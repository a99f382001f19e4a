//! From a payload to normalized readings, per reading: `cargo bench --bench decode`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loushan_ingest::pipeline::decode::{Decoded, decode};
use loushan_ingest::pipeline::normalize::normalize_batch;
use loushan_schemas::sample;
use loushan_schemas::time::ReceiveTime;
use loushan_schemas::topic::Topic;
use prost::Message;

fn decode_and_normalize(c: &mut Criterion) {
    let topic = Topic::parse("nb1/zunyi/bs0001/u/t").unwrap();
    let mut group = c.benchmark_group("decode_and_normalize");
    for readings in [1_u32, 20, 200] {
        let batch = sample::wire_batch("bs0001", 1, 0, 0, readings);
        let received = ReceiveTime::from_ns(batch.base_time_ms as i64 * 1_000_000);
        let payload = Bytes::from(batch.encode_to_vec());
        group.throughput(Throughput::Elements(readings.into()));
        group.bench_function(BenchmarkId::new("plain", readings), |b| {
            b.iter(|| {
                let Ok(Decoded::Batch(batch)) = decode(&topic, black_box(&payload)) else {
                    panic!("the sample does not decode");
                };
                normalize_batch(batch, topic.channel, received)
            });
        });
        // The price of the pre-pass: prost alone, which would believe the sender.
        group.bench_function(BenchmarkId::new("prost_alone", readings), |b| {
            b.iter_batched(
                || payload.clone(),
                |payload| loushan_schemas::pb::UplinkBatch::decode(payload).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, decode_and_normalize);
criterion_main!(benches);
