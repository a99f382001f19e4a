//! `projects.csv`: what each project may use a day.

use std::path::Path;

use super::csv_file::{self, Loaded};
use super::{Quota, Registry};
use crate::config::units::parse_size;
use crate::io::{Io, read_all};

/// The columns, in this order, named in the first line.
const COLUMNS: [&str; 3] = ["project", "readings_per_day", "bytes_per_day"];

impl Registry {
    /// Reads `projects.csv`. Good lines are taken over, bad ones are reported by number; of two lines
    /// for one project the first counts. An empty cell is no bound.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load_quotas_file(&self, io: &dyn Io, path: &Path) -> std::io::Result<Loaded> {
        Ok(self.load_quotas(&read_all(io, path)?))
    }

    /// As [`Registry::load_quotas_file`], from bytes.
    pub fn load_quotas(&self, text: &[u8]) -> Loaded {
        let mut seen = hashbrown::HashSet::new();
        csv_file::read(text, COLUMNS, |[project, readings, bytes]| {
            if project.is_empty() {
                return Err("the project has no name".to_owned());
            }
            let project: String = project.chars().take(200).collect();
            let number = |text: &str| text.parse::<u64>().ok();
            let size = |text: &str| number(text).or_else(|| parse_size(text));
            let quota = Quota {
                readings: bound("readings_per_day", readings, "a whole number", number)?,
                bytes: bound("bytes_per_day", bytes, "bytes, or a size such as 2GiB", size)?,
            };
            if !seen.insert(project.clone()) {
                return Err(format!("project {project} has a line already"));
            }
            self.set_quota(project, quota);
            Ok(())
        })
    }
}

fn bound(
    column: &str,
    text: &str,
    accepted: &str,
    parse: impl FnOnce(&str) -> Option<u64>,
) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!("{column} {shown:?} is not {accepted}, or nothing for no bound")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryLimits;

    #[test]
    fn good_lines_are_taken_and_bad_ones_told_by_number_and_remedy() {
        let registry = Registry::new(RegistryLimits::default());
        let text = "project,readings_per_day,bytes_per_day\nwater,1000000,2GiB\nlights,,\n\
                    smoke,many,\nwater,1,1\n,1,1\nlifts,1\n";
        let loaded = registry.load_quotas(text.as_bytes());
        assert_eq!(loaded.taken, 2);
        let bad: Vec<String> = loaded.bad.iter().map(ToString::to_string).collect();
        assert_eq!(
            bad,
            [
                "line 4: readings_per_day \"many\" is not a whole number, or nothing for no bound",
                "line 5: project water has a line already",
                "line 6: the project has no name",
                "line 7: it has 2 columns instead of 3",
            ]
        );
        let projects = registry.projects(0);
        let water = Quota { readings: Some(1_000_000), bytes: Some(2 << 30) };
        assert_eq!(projects.get("water").map(|it| it.quota), Some(water));
        assert_eq!(projects.get("lights").map(|it| it.quota), Some(Quota::default()));
    }
}
