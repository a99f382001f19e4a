//! A stopped service's data folder, as the audit sees it.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use loushan_ingest::clock::Clock;
use loushan_ingest::io::Io;
use loushan_ingest::io::real::RealIo;
use loushan_ingest::lock::ReadLock;
use loushan_ingest::service::{letter_dirs, store_dir};
use loushan_ingest::sink::dead_letter::DeadLetters;
use loushan_ingest::sink::embedded::{EmbeddedConfig, RetentionConfig, Store as Embedded};
use loushan_schemas::row::Row;
use loushan_simulator::AuditError;
use loushan_simulator::audit::{Each, Keeps, Letter, Store, Stored, tell_rows};

use crate::cli::Failure;

/// The folder, ours to read until the audit is over.
pub(super) struct Folder {
    store: Embedded,
    data: PathBuf,
    io: Arc<dyn Io>,
    retention: RetentionConfig,
    _lock: ReadLock,
}

impl Folder {
    pub(super) fn open(data: &Path, retention: RetentionConfig) -> Result<Self, Failure> {
        let lock = ReadLock::take(data)?;
        let io: Arc<dyn Io> = Arc::new(RealIo);
        let config = EmbeddedConfig::default();
        let store = Embedded::open_read_only(Arc::clone(&io), &store_dir(data), &config)?;
        let Some(store) = store else {
            let what = format!("{} holds no store; name a data folder with --data", data.display());
            return Err(Failure::usage(anyhow!(what)));
        };
        // After a kill that is not everything, and the missing rest would look like a loss.
        eprintln!(
            "as of lsn {}: after a kill, start the service and stop it before its folder is audited",
            store.cursor()
        );
        Ok(Self { store, data: data.to_owned(), io, retention, _lock: lock })
    }

    /// Every row, until `each` has seen enough or failed.
    fn each_row(
        &self,
        after_lsn: u64,
        mut each: impl FnMut(&Row) -> Result<bool, AuditError>,
    ) -> Result<(), AuditError> {
        let mut outcome = Ok(());
        let mut step = |row: Row| match each(&row) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        };
        self.store.export(after_lsn, &mut step).map_err(|e| AuditError::Store(e.to_string()))?;
        outcome
    }
}

impl Store for Folder {
    fn settle(&mut self) -> Result<i64, AuditError> {
        Ok(0)
    }

    fn keeps(&mut self) -> Result<Keeps, AuditError> {
        let kinds = &self.retention.kinds;
        let ages = kinds.iter().filter_map(|(kind, limits)| {
            let age = i64::try_from(limits.age?.as_millis()).unwrap_or(i64::MAX);
            Some((kind.number(), age))
        });
        let bounded = kinds.iter().filter(|(_, limits)| limits.bytes.is_some());
        Ok(Keeps {
            now_ms: Clock::System.now().ms(),
            ages: ages.collect(),
            bounded: bounded.map(|(kind, _)| kind.number()).collect(),
            all_bounded: self.retention.bytes.is_some(),
        })
    }

    fn rows(&mut self, each: &mut Each<'_, Stored>) -> Result<(), AuditError> {
        self.each_row(0, |row| each(Stored::of(row)).map(|()| true))
    }

    fn letters(&mut self, each: &mut Each<'_, Letter>) -> Result<Option<()>, AuditError> {
        let failed = |e: &dyn std::fmt::Display| AuditError::Store(e.to_string());
        let mut line = String::new();
        for dir in letter_dirs(&*self.io, &self.data).map_err(|e| failed(&e))? {
            let letters = DeadLetters::open_read(Arc::clone(&self.io), &dir);
            for letter in letters.map_err(|e| failed(&e))? {
                line.clear();
                letter.map_err(|e| failed(&e))?.write_json(&mut line);
                each(Letter::from_json(&line).map_err(|e| failed(&e))?)?;
            }
        }
        Ok(Some(()))
    }

    fn tell(
        &mut self,
        wanted: &HashSet<(u64, u128)>,
    ) -> Result<HashMap<(u64, u128), String>, AuditError> {
        tell_rows(wanted, |after, each| self.each_row(after, |row| Ok(each(row))))
    }
}
