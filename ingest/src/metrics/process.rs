//! Figures of the process, under the names that Prometheus's client libraries give them, from Linux's
//! `/proc`. A library for it brings bindings for three other systems with it.

use std::fs::read_to_string;

use ::metrics::{counter, gauge};
use rustix::process::{Resource, getrlimit};

/// Looks them up. What cannot be read is left as it was.
#[allow(clippy::cast_precision_loss)] // gauges are doubles
pub(super) fn record() {
    if let Some(stat) = read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let page = rustix::param::page_size() as u64;
        counter!("process_cpu_seconds_total").absolute(stat.cpu_ticks / ticks);
        gauge!("process_resident_memory_bytes").set((stat.resident_pages * page) as f64);
        gauge!("process_virtual_memory_bytes").set(stat.virtual_bytes as f64);
        gauge!("process_threads").set(stat.threads as f64);
        if let Some(boot) = read_to_string("/proc/stat").ok().as_deref().and_then(boot_time) {
            let started = boot as f64 + stat.start_ticks as f64 / ticks as f64;
            gauge!("process_start_time_seconds").set(started);
        }
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // Less the one by which they are listed.
        gauge!("process_open_fds").set(files.count().saturating_sub(1) as f64);
    }
    let most = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |files| files as f64);
    gauge!("process_max_fds").set(most);
}

/// What is wanted of `/proc/self/stat`; see proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name stands in parentheses, and may have any character in it. The third field follows.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine started, in Unix seconds, by `/proc/stat`.
fn boot_time(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_moves_no_field() {
        let text =
            "7 (a) b) (c) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 12 0 4711 1048576 256 18 0";
        let stat = Stat::parse(text).unwrap();
        let expected = Stat {
            cpu_ticks: 300,
            threads: 12,
            start_ticks: 4711,
            virtual_bytes: 1_048_576,
            resident_pages: 256,
        };
        assert_eq!(stat, expected);
        for bad in
            ["", "7 (a", "7 (a) S 1 2", "7 (a) S x x x x x x x x x x x x x x x x x x x x x x"]
        {
            assert_eq!(Stat::parse(bad), None, "{bad}");
        }
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000));
        assert_eq!(boot_time("cpu"), None);
    }
}
