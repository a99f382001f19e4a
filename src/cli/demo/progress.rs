//! One line that renews itself on a terminal; a plain line now and then where there is none.

use std::future::Future;
use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often the line is renewed on a terminal.
const RENEWED: Duration = Duration::from_millis(500);
/// How often a line is added where nobody watches: a log of an hour stays readable.
const ADDED: Duration = Duration::from_secs(5);

pub(in crate::cli) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(in crate::cli) fn new() -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            // Not {wide_msg}, which cuts off what a narrow terminal has no room for. The template is a
            // constant; were it wrong, the library's own would do.
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    /// Waits for `work`, showing the line of each moment; `line` is given the time since its last.
    pub(in crate::cli) async fn beside<T>(
        &mut self,
        work: impl Future<Output = T>,
        mut line: impl FnMut(Duration) -> String,
    ) -> T {
        let mut work = pin!(work);
        let pace = if self.bar.is_some() { RENEWED } else { ADDED };
        let mut ticks = interval_at(Instant::now() + pace, pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                now = ticks.tick() => {
                    let text = line(now - last);
                    last = now;
                    match &self.bar {
                        Some(bar) => bar.set_message(text),
                        None => println!("{text}"),
                    }
                }
            }
        };
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        done
    }
}
