//! A fleet dealt to several processes of this program, whose reports are added up. Each has its own limit
//! of open files, its own runtime and its own ledger: FILE.1, FILE.2 and so on.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, anyhow};
use loushan_simulator::options::Share;
use loushan_simulator::report::Report;
use loushan_simulator::scenario::{Plan, Said, keys};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{Failure, block_on, signals};

/// Runs all parts, and adds their reports up.
pub(super) fn play(plan: &Plan, said: &[Said]) -> Result<Report, Failure> {
    if plan.fleet.share != Share::WHOLE {
        return Err(Failure::usage(anyhow!(
            "both share and processes are given; on several machines give each process its share"
        )));
    }
    // What is said later counts; one value per key, or the parser of the flags would complain.
    let mut last: BTreeMap<String, Vec<String>> = said.iter().flatten().cloned().collect();
    last.remove("fail_if");
    last.remove("stations_csv");
    block_on(async {
        let stop = signals::stop_on_signal()?;
        let mut children = Vec::new();
        for part in 1..=plan.processes {
            children.push(start(plan, part, last.clone())?);
        }
        let pids: Vec<Pid> = children
            .iter()
            .filter_map(|child| Pid::from_raw(i32::try_from(child.id()).ok()?))
            .collect();
        let stopped = async {
            stop.cancelled().await;
            for pid in pids {
                // It may have ended by itself.
                if let Err(error) = kill_process(pid, Signal::TERM) {
                    tracing::debug!(%error, "a part of the fleet was not there to be stopped");
                }
            }
            std::future::pending::<()>().await;
        };
        let mut tasks = tokio::task::JoinSet::new();
        for child in children {
            tasks.spawn_blocking(move || finish(child));
        }
        let all = async {
            let mut whole: Option<Report> = None;
            while let Some(report) = tasks.join_next().await {
                let report = report.context("a part of the fleet")??;
                match &mut whole {
                    None => whole = Some(report),
                    Some(whole) => whole.merge(report),
                }
            }
            whole.context("no part of the fleet ran")
        };
        tokio::select! {
            report = all => Ok(report?),
            () = stopped => Err(anyhow!("a fleet that was stopped did not end").into()),
        }
    })
}

fn start(plan: &Plan, part: u32, mut said: BTreeMap<String, Vec<String>>) -> anyhow::Result<Child> {
    said.insert("share".to_owned(), vec![format!("{part}/{}", plan.processes)]);
    said.insert("processes".to_owned(), vec!["1".to_owned()]);
    if let (Some(path), 2..) = (&plan.fleet.ledger, plan.processes) {
        said.insert("ledger".to_owned(), vec![format!("{}.{part}", path.display())]);
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["simulate", "--json", "-"]).stdout(Stdio::piped());
    for key in keys() {
        for value in said.get(&key.name).into_iter().flatten() {
            command.arg(format!("--{}={value}", key.flag()));
        }
    }
    command.spawn().context("cannot start a part of the fleet")
}

fn finish(child: Child) -> anyhow::Result<Report> {
    let output = child.wait_with_output()?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("a part of the fleet ended with {}", output.status))
}
