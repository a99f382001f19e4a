//! `record`: what a live broker's subscribers see, into a trace that `simulate --trace` plays.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use loushan_simulator::AccessOptions;
use loushan_simulator::options::{MqttVersion, Qos};
use loushan_simulator::recording::{RecordError, RecordOptions, record};

use super::{Failure, block_on, events, signals, simulate};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The broker: mqtt://[user[:password]@]host[:port], mqtts:// over TLS.
    #[arg(long, value_name = "URL")]
    target: String,
    /// What to subscribe to; several times for several.
    #[arg(long, value_name = "FILTER", default_value = "#")]
    topic: Vec<String>,
    /// The trace to append to.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Quality of service of the subscriptions: messages come at this one at most.
    #[arg(long, value_name = "N", default_value = "1", value_parser = ["0", "1", "2"])]
    qos: String,
    /// MQTT version.
    #[arg(long, value_name = "VERSION", default_value = "5", value_parser = ["3.1.1", "5"])]
    mqtt: String,
    /// The client's name; nobody else may have it at that broker.
    #[arg(long, value_name = "NAME", default_value = "loushan-record")]
    client_id: String,
    /// How long to record, such as 10min [default: until it is stopped].
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// The user's name.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The file with the password in its first line [default: LOUSHAN_PASSWORD, or none].
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// For mqtts://: the authorities that may have signed the server's certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// For mqtts://: the client's certificate in PEM.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<String>,
    /// Its key in PEM.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<String>,
}

impl Args {
    fn options(&self) -> RecordOptions {
        let qos = ["0", "1", "2"].iter().zip(Qos::ALL).find(|(level, _)| **level == self.qos);
        RecordOptions {
            target: self.target.clone(),
            access: AccessOptions {
                ca: self.ca.clone(),
                client_certificate: self.client_certificate.clone(),
                client_key: self.client_key.clone(),
                user: self.user.clone(),
                password: simulate::password(),
                password_file: self.password_file.clone(),
                passwords_file: None,
            },
            version: if self.mqtt == "5" { MqttVersion::V5 } else { MqttVersion::V311 },
            qos: qos.map_or(Qos::AtLeastOnce, |(_, qos)| qos),
            filters: self.topic.clone(),
            client_id: self.client_id.clone(),
            out: self.out.clone(),
            duration: self.duration,
            messages: self.messages,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    events::start_by_environment("warn")?;
    let options = args.options();
    let recorded = block_on(async {
        let stop = signals::stop_on_signal()?;
        let (topics, out) = (options.filters.join(", "), options.out.display().to_string());
        let begun = move || println!("recording {topics} into {out}");
        record(options, stop, begun).await.map_err(|error| match error {
            RecordError::Target(_) | RecordError::Access(_) => Failure::usage(error),
            error => error.into(),
        })
    })?;
    println!(
        "{} messages, {} bytes of payload; {} interruptions, {} filters refused",
        recorded.messages, recorded.bytes, recorded.interruptions, recorded.refused
    );
    Ok(ExitCode::SUCCESS)
}
