//! One line that renews itself on a terminal; a plain line now and then where there is none.

use std::future::Future;
use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often the line is renewed on a terminal.
const RENEWED: Duration = Duration::from_millis(500);
/// How often a line is added where nobody watches: a log of an hour stays readable.
const ADDED: Duration = Duration::from_secs(5);

/// What is shortened where the line has no room, above all in the usual 80 columns.
const SHORTER: [(&str, &str); 8] = [
    (" · ", " "),
    (", ", " "),
    (" stations", ""),
    (" readings/s", "/s"),
    (" acknowledged", " acked"),
    (" duplicates", " dup"),
    (" dead letters", " dead"),
    (" ack p50", " p50"),
];

/// The line, in fewer words if it is wider than the terminal.
fn fitted(line: String, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line;
    }
    SHORTER.iter().fold(line, |line, (long, short)| line.replace(long, short))
}

pub(in crate::cli) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(in crate::cli) fn new() -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            // The template is a constant; were it wrong, the library's own would do.
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
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
                        Some(bar) => {
                            let (_, columns) = Term::stdout().size();
                            bar.set_message(fitted(text, columns.into()));
                        }
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

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn a_line_of_a_city_fits_eighty_columns_with_all_its_figures() {
        let line = "500/500 stations · 1013 readings/s · 110590 acknowledged · 110380 stored · \
                    210 duplicates · 0 dead letters · ack p50 2.4 ms p99 27.5 ms";
        assert_eq!(fitted(line.to_owned(), 200), line);
        let short = fitted(line.to_owned(), 80);
        let expected =
            "500/500 1013/s 110590 acked 110380 stored 210 dup 0 dead p50 2.4 ms p99 27.5 ms";
        assert_eq!(short, expected);
        assert!(short.chars().count() <= 80);
    }
}
