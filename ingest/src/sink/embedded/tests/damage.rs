//! Files that are not what they were (I10).

use std::path::PathBuf;
use std::sync::Arc;

use loushan_schemas::kind::Kind;

use super::super::{EmbeddedConfig, OpenError, QueryError, Store};
use super::support::{DAY, DAY_MS, Driven, dir, exported, frame, imei, log_id, open, row, rows_of};
use crate::io::sim::{Failure, Fault, Op, SimIo};
use crate::io::{Io, read_all};

/// Numbers in no order, not even in their differences: they do not compress, and few rows make many
/// blocks.
fn seq(n: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes())
}

fn stored(rows: u64) -> (SimIo, PathBuf, Vec<Arc<crate::pipeline::frame::DurableFrame>>) {
    let io = SimIo::new();
    let mut driven = Driven::open(io.clone());
    let log = vec![frame(
        1,
        (0..rows).map(|n| row(Kind::Smoke, n, seq(n), DAY + i64::try_from(n).unwrap())).collect(),
    )];
    driven.push(&log);
    driven.flush().unwrap();
    (io, dir().join("kind=smoke/date=2026-11-24/0000000001.parquet"), log)
}

#[test]
fn any_flipped_bit_of_a_file_is_an_error_that_names_it() {
    let (io, path, log) = stored(20);
    let len = read_all(&io, &path).unwrap().len();
    for at in 0..len {
        io.flip_bit(&path, at as u64, u8::try_from(at % 8).unwrap()).unwrap();
        let store = open(io.clone()).0;
        let asked = [
            store.export(0, &mut |_| std::ops::ControlFlow::Continue(())).err(),
            store.history(imei(3), DAY, DAY + DAY_MS, 10).err(),
            store.count(None, DAY + 1, DAY + 5).err(),
            store.contains(imei(3), 1, seq(3), Kind::Smoke, Some(time())).err(),
        ];
        for error in asked {
            match error {
                Some(QueryError::Corrupt { path: named, .. }) => assert_eq!(named, path),
                other => panic!("a flip at {at}: {other:?}"),
            }
        }
        io.flip_bit(&path, at as u64, u8::try_from(at % 8).unwrap()).unwrap();
    }
    assert_eq!(exported(&open(io).0, 0), rows_of(&log));
}

fn time() -> loushan_schemas::time::DeviceTime {
    loushan_schemas::time::DeviceTime::from_ms(DAY + 3).unwrap()
}

#[test]
fn a_flipped_bit_in_one_block_of_many_is_found_when_its_rows_are_asked_for() {
    let (io, path, _) = stored(60_000);
    let len = read_all(&io, &path).unwrap().len() as u64;
    assert!(len > 2 * 65_536, "several blocks: {len}");
    for at in [10, 65_536, 2 * 65_536, len - 9] {
        io.flip_bit(&path, at, 3).unwrap();
        let error = open(io.clone()).0.export(0, &mut |_| std::ops::ControlFlow::Continue(()));
        assert!(
            matches!(&error, Err(QueryError::Corrupt { path: p, .. }) if *p == path),
            "{error:?}"
        );
        io.flip_bit(&path, at, 3).unwrap();
    }
}

#[test]
fn a_truncated_replaced_or_missing_file_keeps_the_store_from_opening_and_is_named() {
    let (io, path, _) = stored(20);
    let refused = || {
        let error = Store::open(Arc::new(io.clone()), &dir(), EmbeddedConfig::default(), log_id());
        match error.unwrap_err() {
            OpenError::Corrupt { path: named, why } => {
                assert_eq!(named, path);
                why
            }
            other => panic!("{other}"),
        }
    };
    let whole = read_all(&io, &path).unwrap();
    io.open(&path).unwrap().set_len(whole.len() as u64 - 1).unwrap();
    assert!(refused().contains("bytes"));
    io.remove_file(&path).unwrap();
    assert!(refused().contains("missing"));
    // Garbage of the right length opens, and is found out when it is read.
    let file = io.create_new(&path).unwrap();
    crate::io::write_all_at(&*file, &vec![0x5a; whole.len()], 0).unwrap();
    let error = open(io.clone()).0.count(None, DAY, DAY + 3).unwrap_err();
    assert!(error.to_string().contains("0000000001.parquet is damaged"), "{error}");
}

#[test]
fn a_disk_that_cannot_be_read_now_is_not_called_damage() {
    let (io, path, log) = stored(20);
    let store = open(io.clone()).0;
    for after in 0..2 {
        let of = "0000000001".to_owned();
        io.inject(Fault { op: Op::Read, path: of, after, times: 1, failure: Failure::Errno(5) });
        let asked = store.export(0, &mut |_| std::ops::ControlFlow::Continue(()));
        let met = !io.clear_faults();
        assert_eq!(met, asked.is_err());
        if let Err(error) = asked {
            assert!(matches!(&error, QueryError::Io { path: p, .. } if *p == path), "{error}");
        }
    }
    assert_eq!(exported(&store, 0), rows_of(&log));
}
