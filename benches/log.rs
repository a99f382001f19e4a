//! The log on the real disk, group commit and recovery: `cargo bench --bench log`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loushan_ingest::io::real::RealIo;
use loushan_ingest::wal::{AppendError, Log, LogEvents, LogOptions, Lsn};

struct Silent;

impl LogEvents for Silent {
    fn durable(&self, _: Lsn) {}
    fn failed(&self, _: Lsn, _: Lsn, error: &io::Error) {
        panic!("the disk failed: {error}");
    }
    fn writable(&self) {}
}

fn open(dir: &std::path::Path) -> Log {
    let io = Arc::new(RealIo);
    Log::open(io, dir, LogOptions::default(), Lsn::ZERO, Arc::new(Silent)).unwrap().0
}

/// Appends bodies and waits until the last is durable.
fn append_durably(log: &Log, body: &[u8], count: u64) {
    let mut last = Lsn::ZERO;
    for _ in 0..count {
        last = loop {
            match log.append(body) {
                Ok(lsn) => break lsn,
                Err(AppendError::Full) => std::thread::yield_now(),
                Err(e) => panic!("{e}"),
            }
        };
    }
    while log.durable() < last {
        std::thread::yield_now();
    }
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("log_append_until_durable");
    group.sample_size(20);
    for (bytes, count) in [(200, 1), (200, 100), (200, 10_000), (4096, 1000)] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        let body = vec![0x5a; bytes];
        group.throughput(Throughput::Bytes(bytes as u64 * count));
        group.bench_function(BenchmarkId::new(format!("{bytes}B"), count), |b| {
            b.iter(|| append_durably(&log, &body, count));
            log.delete_below(log.durable()).unwrap();
        });
        log.close().unwrap();
    }
    group.finish();
}

fn recovery(c: &mut Criterion) {
    const FRAMES: u64 = 200_000;
    const BYTES: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append_durably(&log, &[0x5a; BYTES], FRAMES);
    log.close().unwrap();
    let mut group = c.benchmark_group("log_recovery");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(FRAMES * BYTES as u64));
    // Each open starts a segment of its own, which the next one reads as well: nearly empty.
    group.bench_function("200k_frames_of_200B", |b| {
        b.iter_batched(|| (), |()| open(dir.path()).close().unwrap(), BatchSize::PerIteration);
    });
    group.bench_function("read_200k_frames_of_200B", |b| {
        let log = open(dir.path());
        b.iter(|| {
            let mut reader = log.reader(Lsn::ZERO);
            let mut frames = 0;
            while frames < FRAMES && reader.next().unwrap().is_some() {
                frames += 1;
            }
            assert_eq!(frames, FRAMES);
        });
        log.close().unwrap();
    });
    group.finish();
}

/// A log of one GiB, as one that an outage left behind: opened (each frame checked, what cannot be proven
/// written again), and read by a sink; beside the same files read plainly. All of it from the page
/// cache, if there is room.
fn one_gib(c: &mut Criterion) {
    const BODY: usize = 4096;
    const GIB: u64 = 1 << 30;
    let frames = GIB / BODY as u64;
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append_durably(&log, &[0x5a; BODY], frames);
    log.close().unwrap();
    let mut group = c.benchmark_group("log_one_gib");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(GIB));
    group.bench_function("plain_read_of_its_files", |b| {
        let mut buffer = vec![0; 1 << 20];
        b.iter(|| {
            let mut read = 0;
            for entry in std::fs::read_dir(dir.path()).unwrap() {
                let mut file = std::fs::File::open(entry.unwrap().path()).unwrap();
                loop {
                    match io::Read::read(&mut file, &mut buffer).unwrap() {
                        0 => break,
                        n => read += n as u64,
                    }
                }
            }
            assert!(read >= GIB);
        });
    });
    group.bench_function("recovery", |b| {
        b.iter_batched(|| (), |()| open(dir.path()).close().unwrap(), BatchSize::PerIteration);
    });
    group.bench_function("read_by_a_sink", |b| {
        let log = open(dir.path());
        b.iter(|| {
            let mut reader = log.reader(Lsn::ZERO);
            let mut bytes = 0;
            while let Some(frame) = reader.next().unwrap() {
                bytes += frame.body.len() as u64;
            }
            assert_eq!(bytes, GIB);
        });
        log.close().unwrap();
    });
    group.finish();
}

criterion_group!(benches, append, recovery, one_gib);
criterion_main!(benches);
