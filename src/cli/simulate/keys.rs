//! A flag for every key of a scenario.

use clap::{Arg, ArgAction, ArgMatches, Command};
use loushan_simulator::scenario::{Said, keys};

/// What was said by flags.
#[derive(Debug)]
pub(super) struct KeyFlags {
    pub(super) said: Said,
}

impl clap::Args for KeyFlags {
    fn augment_args(command: Command) -> Command {
        keys().into_iter().fold(command, |command, key| {
            let action = if key.many { ArgAction::Append } else { ArgAction::Set };
            let argument = Arg::new(key.name.clone())
                .long(key.flag())
                .value_name(key.value)
                .help(key.about.clone())
                .action(action);
            let argument = match key.bare {
                Some(bare) => argument.num_args(0..=1).default_missing_value(bare),
                None => argument,
            };
            command.arg(argument)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for KeyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut said = Vec::new();
        for key in keys() {
            if let Some(values) = matches.get_many::<String>(&key.name) {
                said.push((key.name, values.cloned().collect()));
            }
        }
        Ok(Self { said })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
