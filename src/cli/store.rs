//! Where a question is asked: of a running service over HTTP, or of a stopped one's files.

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use loushan_ingest::ask::{self, AskError, Asked, Format, Given, Place, What};
use loushan_ingest::clock::Clock;
use loushan_ingest::io::real::RealIo;
use loushan_ingest::lock::{LockError, ReadLock};
use loushan_ingest::service::store_dir;
use loushan_ingest::sink::embedded::{Bounds, EmbeddedConfig, Store};

use super::Failure;
use super::http::ServiceArgs;

/// Bytes that are taken over at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Of whom.
#[derive(Debug, clap::Args)]
pub(super) struct Whom {
    #[command(flatten)]
    service: ServiceArgs,
    /// Instead of a running service, ask the files in a stopped one's data folder. Nothing in it is
    /// changed.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["url", "token_file", "ca"])]
    data: Option<PathBuf>,
}

/// A question as it is given.
pub(super) struct Question {
    pub(super) what: What,
    /// Where a service is asked it.
    pub(super) path: &'static str,
    pub(super) parameters: Vec<(&'static str, String)>,
}

impl Whom {
    /// Asks, and writes the answer as it comes.
    pub(super) fn ask(
        &self,
        question: &Question,
        format: &str,
        out: &mut (dyn Write + Send),
    ) -> Result<(), Failure> {
        match &self.data {
            Some(data) => ask_files(data, question, format, out),
            None => self.ask_service(question, format, out),
        }
    }

    fn ask_service(
        &self,
        question: &Question,
        format: &str,
        out: &mut (dyn Write + Send),
    ) -> Result<(), Failure> {
        let mut parameters: Vec<(&str, &str)> =
            question.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        parameters.push(("format", format));
        let mut answer = self.service.client()?.get(question.path, &parameters)?.into_reader();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = match answer.read(&mut chunk) {
                Ok(0) => return Ok(out.flush()?),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::Failed(anyhow!("the answer broke off: {e}"))),
            };
            out.write_all(chunk.get(..read).unwrap_or_default())?;
        }
    }
}

fn ask_files(
    data: &Path,
    question: &Question,
    format: &str,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let store = store_dir(data);
    let _lock = ReadLock::take(data).map_err(|error| match error {
        LockError::Held { holder, .. } => {
            let who = holder.map_or_else(String::new, |pid| format!(" by process {pid}"));
            Failure::Failed(anyhow!(
                "the data folder {} is in use{who}; ask the running service with --url",
                data.display()
            ))
        }
        error => error.into(),
    })?;
    let opened = Store::open_read_only(Arc::new(RealIo), &store, &EmbeddedConfig::default())?;
    let Some(store) = opened else {
        let what = format!("{} holds no store; name a data folder with --data", data.display());
        return Err(Failure::usage(anyhow!(what)));
    };
    let parameters = question.parameters.iter();
    let mut given: Vec<(String, String)> =
        parameters.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    given.push(("format".to_owned(), format.to_owned()));
    let place = Place { store, registry: None, now_ms: Clock::System.now().ms() };
    let asked = Asked::parse(question.what, &Given(given), Some(Format::Json), place.now_ms);
    let asked = asked.map_err(Failure::usage)?;
    eprintln!(
        "as of lsn {}: what the log holds beyond it is stored when the service starts again",
        place.store.cursor()
    );
    match ask::answer(&place, &asked, &Bounds::default(), out) {
        Ok(()) => Ok(out.flush()?),
        Err(AskError::Parameter(error)) => Err(Failure::usage(error)),
        Err(error) => Err(error.into()),
    }
}

/// Whether something failed because the reader (`| head`) has seen enough.
pub(super) fn is_broken_pipe(failure: &Failure) -> bool {
    let (Failure::Usage(error) | Failure::Failed(error)) = failure;
    let mut io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
