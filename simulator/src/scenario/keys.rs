//! The keys of a scenario: name, what it takes, what it is for, and how it is set.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use super::Plan;
use crate::fault::{Chance, Fault};
use crate::options::{MqttVersion, Qos, Schedule, Share};
use crate::report::Condition;
use crate::traffic::Traffic;

/// One key.
#[derive(Debug, Clone)]
pub struct Key {
    /// In a file; a flag has dashes for dots and underscores.
    pub name: String,
    /// What it takes, for help texts.
    pub value: &'static str,
    /// Whether it takes several.
    pub many: bool,
    /// What a flag without a value stands for, if it may.
    pub bare: Option<&'static str>,
    /// What it is for.
    pub about: String,
    setter: Setter,
}

#[derive(Debug, Clone, Copy)]
enum Setter {
    Plain(fn(&mut Plan, &str) -> Result<(), String>),
    List(fn(&mut Plan, &[String]) -> Result<(), String>),
    Fault(Fault),
}

impl Key {
    /// The flag without its dashes in front.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace(['_', '.'], "-")
    }

    pub(super) fn set(&self, plan: &mut Plan, values: &[String]) -> Result<(), String> {
        if let Setter::List(set) = self.setter {
            return set(plan, values);
        }
        let [value] = values else { return Err("give one value".to_owned()) };
        match self.setter {
            Setter::Plain(set) => set(plan, value),
            Setter::Fault(fault) => {
                plan.fleet.faults.set(fault, Chance::parse(fault, value)?);
                Ok(())
            }
            Setter::List(_) => Ok(()),
        }
    }
}

/// All keys.
#[must_use]
pub fn keys() -> Vec<Key> {
    let plain = PLAIN.iter().map(|(name, value, about, set)| Key {
        name: (*name).to_owned(),
        value,
        many: false,
        bare: (*name == "map_identities").then_some("1"),
        about: (*about).to_owned(),
        setter: Setter::Plain(*set),
    });
    let lists = LISTS.iter().map(|(name, value, about, set)| Key {
        name: (*name).to_owned(),
        value,
        many: true,
        bare: None,
        about: (*about).to_owned(),
        setter: Setter::List(*set),
    });
    let faults = Fault::ALL.into_iter().map(|fault| Key {
        name: format!("fault.{}", fault.as_str()),
        value: "CHANCE",
        many: false,
        bare: None,
        about: fault.about().to_owned(),
        setter: Setter::Fault(fault),
    });
    plain.chain(lists).chain(faults).collect()
}

fn parsed<T: FromStr>(text: &str, wanted: impl Display) -> Result<T, String> {
    text.replace('_', "").parse().map_err(|_| format!("give {wanted}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "give a time with its unit, such as 90s, 5min or 1h 30min";
    humantime::parse_duration(text).map_err(|_| wanted.to_owned())
}

fn one_of<T: Copy, const N: usize>(text: &str, all: [(&str, T); N]) -> Result<T, String> {
    let found = all.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| format!("give one of {}", all.map(|(name, _)| name).join(", ")))
}

type Plain = (&'static str, &'static str, &'static str, fn(&mut Plan, &str) -> Result<(), String>);
type List =
    (&'static str, &'static str, &'static str, fn(&mut Plan, &[String]) -> Result<(), String>);

const PLAIN: &[Plain] = &[
    ("about", "TEXT", "What the scenario is for, in a line", |plan, text| {
        text.clone_into(&mut plan.about);
        Ok(())
    }),
    ("stations", "N", "Stations, each with a session of its own [default: 500]", |plan, text| {
        plan.fleet.stations = parsed(text, "a number of stations")?;
        Ok(())
    }),
    ("devices_per_station", "N", "Devices behind each station [default: 20]", |plan, text| {
        plan.fleet.devices_per_station = parsed(text, "a number of devices")?;
        Ok(())
    }),
    ("seed", "N", "What everything is derived from [default: 1]", |plan, text| {
        plan.fleet.seed = parsed(text, "a whole number from 0")?;
        Ok(())
    }),
    (
        "start",
        "SECONDS",
        "Unix seconds at which simulated time begins; the same seed and start give the same bytes \
         [default: such that it ends at now]",
        |plan, text| {
            plan.fleet.start = Some(parsed(text, "Unix seconds")?);
            Ok(())
        },
    ),
    ("for", "DURATION", "How long to run [default: until it is stopped]", |plan, text| {
        plan.fleet.duration = Some(duration(text)?);
        Ok(())
    }),
    (
        "speed",
        "N",
        "How many times faster than the wall clock simulated time runs: 1440 makes a day a minute; more \
         than 1 needs `for`. A trace is played faster or, by a fraction, slower [default: 1]",
        |plan, text| {
            (plan.fleet.speed, plan.fleet.tempo) = match parsed(text, "") {
                Ok(speed) => (speed, 1.0),
                Err(_) => (1, parsed(text, "a whole number from 1, or of a trace any above 0")?),
            };
            Ok(())
        },
    ),
    (
        "ramp",
        "DURATION",
        "Over how long the stations' first connects are spread [default: 2s]",
        |plan, text| {
            plan.fleet.ramp = duration(text)?;
            Ok(())
        },
    ),
    (
        "drain",
        "DURATION",
        "How long the end waits for acknowledgements that are due [default: 10s]",
        |plan, text| {
            plan.fleet.drain = duration(text)?;
            Ok(())
        },
    ),
    (
        "traffic",
        "MODEL",
        "When devices report: kinds (as their kind does), midnight (the same, but all water meters at once after 20 s), mar (3GPP's mobile autonomous reporting), \
         mar-beta (the same after a power cut) [default: kinds]",
        |plan, text| {
            plan.fleet.traffic = one_of(text, Traffic::ALL.map(|t| (t.as_str(), t)))?;
            Ok(())
        },
    ),
    (
        "rate",
        "N",
        "Readings per second of the whole fleet, at fixed intervals, in place of a traffic model",
        |plan, text| {
            plan.fleet.rate = Some(parsed(text, "readings per second")?);
            Ok(())
        },
    ),
    ("batch_readings", "N", "Readings of a full batch [default: 50]", |plan, text| {
        plan.fleet.batch_readings = parsed(text, "a number of readings")?;
        Ok(())
    }),
    (
        "linger",
        "DURATION",
        "How long a batch's first reading waits at most, in simulated time [default: 2s]",
        |plan, text| {
            plan.fleet.linger = duration(text)?;
            Ok(())
        },
    ),
    (
        "loop",
        "KIND",
        "What a full window does to the schedule: open (it goes on, latency counts from the intended \
         send), closed (it waits, latency counts from the send) [default: open]",
        |plan, text| {
            let kinds = [("open", Schedule::Open), ("closed", Schedule::Closed)];
            plan.fleet.schedule = one_of(text, kinds)?;
            Ok(())
        },
    ),
    ("window", "N", "Unacknowledged batches of one station [default: 20]", |plan, text| {
        plan.fleet.window = parsed(text, "a number of batches")?;
        Ok(())
    }),
    ("mqtt", "VERSION", "MQTT version: 3.1.1 or 5 [default: 3.1.1]", |plan, text| {
        let versions = [("3.1.1", MqttVersion::V311), ("5", MqttVersion::V5)];
        plan.fleet.mqtt_version = one_of(text, versions)?;
        Ok(())
    }),
    (
        "qos",
        "N",
        "Quality of service of batches: 0 (sent and forgotten), 1 or 2 [default: 1]",
        |plan, text| {
            let levels = ["0", "1", "2"];
            let qos = levels.iter().zip(Qos::ALL).find(|(level, _)| **level == text);
            plan.fleet.qos = qos.map(|(_, qos)| qos).ok_or("give one of 0, 1, 2")?;
            Ok(())
        },
    ),
    (
        "user",
        "NAME",
        "The user's name; {station} in it is the station's own [default: {station}, where there is a \
         password]",
        |plan, text| {
            plan.fleet.access.user = Some(text.to_owned());
            Ok(())
        },
    ),
    (
        "password_file",
        "FILE",
        "A file with one password for all stations [default: LOUSHAN_PASSWORD, or none]",
        |plan, text| {
            plan.fleet.access.password_file = Some(text.into());
            Ok(())
        },
    ),
    (
        "passwords_file",
        "FILE",
        "A file with a line STATION:PASSWORD for each station",
        |plan, text| {
            plan.fleet.access.passwords_file = Some(text.into());
            Ok(())
        },
    ),
    (
        "ca",
        "FILE",
        "For mqtts://: the authorities that may have signed the server's certificate, in PEM",
        |plan, text| {
            plan.fleet.access.ca = Some(text.into());
            Ok(())
        },
    ),
    (
        "client_certificate",
        "FILE",
        "For mqtts://: the stations' certificate in PEM; {station} in the path makes it one for each",
        |plan, text| {
            plan.fleet.access.client_certificate = Some(text.to_owned());
            Ok(())
        },
    ),
    ("client_key", "FILE", "Its key in PEM", |plan, text| {
        plan.fleet.access.client_key = Some(text.to_owned());
        Ok(())
    }),
    (
        "source",
        "ADDRESS",
        "The address that stations connect from, or a range of them such as 127.0.0.2-127.0.0.9, taken in \
         turn: each has some 28,000 ports of its own [default: the kernel's choice]",
        |plan, text| {
            plan.fleet.sources = sources(text)?;
            Ok(())
        },
    ),
    (
        "share",
        "PART/OF",
        "Which part of the fleet to play, such as 2/4 on the second of four machines [default: 1/1]",
        |plan, text| {
            let wanted = "PART/OF, such as 1/4";
            let (part, of) = text.split_once('/').ok_or_else(|| format!("give {wanted}"))?;
            plan.fleet.share = Share { part: parsed(part, wanted)?, of: parsed(of, wanted)? };
            Ok(())
        },
    ),
    (
        "processes",
        "N",
        "Processes the fleet is dealt to; each has its own limit of open files [default: 1]",
        |plan, text| {
            let processes = parsed(text, "1 to 64")?;
            if !(1..=64).contains(&processes) {
                return Err("give 1 to 64".to_owned());
            }
            plan.processes = processes;
            Ok(())
        },
    ),
    (
        "trace",
        "FILE",
        "A trace that `loushan record` wrote, to be played in place of a simulated fleet",
        |plan, text| {
            plan.fleet.trace = Some(text.into());
            Ok(())
        },
    ),
    (
        "map_identities",
        "N",
        "Gives a trace's stations, sessions and devices other names, the same for the same N, so that a \
         store has not seen them [without N: 1]",
        |plan, text| {
            plan.fleet.map_identities = Some(parsed(text, "a whole number from 0")?);
            Ok(())
        },
    ),
    (
        "ledger",
        "FILE",
        "The ledger to append to: what was sent, meant, acknowledged",
        |plan, text| {
            plan.fleet.ledger = Some(text.into());
            Ok(())
        },
    ),
    ("stations_csv", "FILE", "Where to write the fleet's stations.csv", |plan, text| {
        plan.fleet.stations_csv = Some(text.into());
        Ok(())
    }),
    (
        "fault.clock_unset",
        "%",
        "Devices whose clock counts from 1970 [default: 0]",
        |plan, text| {
            plan.fleet.device_faults.clock_unset = percent(text)?;
            Ok(())
        },
    ),
    ("fault.clock_local", "%", "Devices that send local time as UTC [default: 0]", |plan, text| {
        plan.fleet.device_faults.clock_local = percent(text)?;
        Ok(())
    }),
    ("fault.drift_ppm", "N", "How far clocks drift at most [default: 20]", |plan, text| {
        plan.fleet.device_faults.drift_ppm = parsed(text, "parts per million")?;
        Ok(())
    }),
    ("fault.seq_8", "%", "Devices that count in 8 bits [default: 0]", |plan, text| {
        plan.fleet.device_faults.seq_8 = percent(text)?;
        Ok(())
    }),
    ("fault.seq_16", "%", "Devices that count in 16 bits [default: 0]", |plan, text| {
        plan.fleet.device_faults.seq_16 = percent(text)?;
        Ok(())
    }),
    ("fault.reboot", "%", "Devices that boot within a day [default: 0.3%]", |plan, text| {
        plan.fleet.device_faults.reboot = percent(text)?;
        Ok(())
    }),
];

/// Source addresses, at most.
const SOURCES: u32 = 4096;

fn sources(text: &str) -> Result<Vec<IpAddr>, String> {
    let wanted = || {
        format!("give an address of this machine, or up to {SOURCES} such as 127.0.0.2-127.0.0.9")
    };
    let Some((first, last)) = text.split_once('-') else {
        return text.parse().map(|address| vec![address]).map_err(|_| wanted());
    };
    let number = |text: &str| text.parse().map(|a: Ipv4Addr| u32::from(a)).map_err(|_| wanted());
    let (first, last) = (number(first)?, number(last)?);
    if first > last || last - first >= SOURCES {
        return Err(wanted());
    }
    Ok((first..=last).map(|number| Ipv4Addr::from(number).into()).collect())
}

/// In a million.
fn percent(text: &str) -> Result<u32, String> {
    Chance::parse(Fault::Duplicate, text)
        .map(|chance| chance.per_million)
        .map_err(|_| "give a share such as 1%".to_owned())
}

const LISTS: &[List] = &[
    (
        "target",
        "URL",
        "The broker: mqtt://[user[:password]@]host[:port], mqtts:// over TLS; stations are dealt to several in turn",
        |plan, values| {
            let (first, more) = values.split_first().ok_or("give mqtt://HOST:PORT")?;
            plan.fleet.target.clone_from(first);
            plan.fleet.more_targets = more.to_vec();
            Ok(())
        },
    ),
    (
        "fail_if",
        "CONDITION",
        "What makes the run a failure, such as 'p99 > 50ms' or 'unacknowledged > 0'",
        |plan, values| {
            plan.fail_if =
                values.iter().map(|text| text.parse()).collect::<Result<Vec<Condition>, _>>()?;
            Ok(())
        },
    ),
];
