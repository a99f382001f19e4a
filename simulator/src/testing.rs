//! For benches and fuzz targets: the fleet's connections without a fleet, and readers fed with any bytes.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::access::{AccessOptions, Entrance};
use crate::block;
use crate::link::{self, LinkError, LinkEvent, LinkOptions, Message};
use crate::options::{MqttVersion, Qos};
use crate::target::Target;
use crate::trace::{Entry, TraceReader};

pub mod many;

/// The MQTT versions with their names.
pub const VERSIONS: [(MqttVersion, &str); 2] =
    [(MqttVersion::V311, "3.1.1"), (MqttVersion::V5, "5")];
/// The qualities of service.
pub const QUALITIES: [Qos; 3] = Qos::ALL;

/// As many publishes as connections take.
#[derive(Debug, Clone)]
pub struct Flood {
    /// The broker.
    pub target: String,
    /// Connections.
    pub clients: usize,
    /// Unacknowledged publishes of each.
    pub window: usize,
    /// In all.
    pub publishes: usize,
    /// Of each.
    pub payload_bytes: usize,
    /// The MQTT version.
    pub version: MqttVersion,
    /// The quality of service.
    pub qos: Qos,
}

/// Publishes; how long it took from the last CONNACK to the last acknowledgement, or at QoS 0 to the last
/// write.
///
/// # Errors
/// When the target is none, or a connection is lost.
#[allow(clippy::disallowed_methods)] // it is the time that is measured
pub async fn flood(flood: &Flood) -> Result<Duration, String> {
    let target = Target::parse(&flood.target).map_err(|e| e.to_string())?;
    let entrance = Entrance::read(&AccessOptions::default(), false).map_err(|e| e.to_string())?;
    let each = flood.publishes / flood.clients.max(1);
    let mut links = Vec::new();
    for n in 0..flood.clients {
        let name = format!("bs{n:04}");
        let options = LinkOptions {
            version: flood.version,
            access: entrance.of(&target, &name).map_err(|e| e.to_string())?,
            source: None,
            client_id: name.clone(),
            will: None,
            window: u16::try_from(flood.window).unwrap_or(u16::MAX),
            most_bytes: 64 * 1024,
        };
        let (sender, mut driver) = link::open(&options);
        driver.poll().await.map_err(|e| e.to_string())?;
        links.push((format!("nb1/zunyi/{name}/u/t"), sender, driver));
    }
    let begun = Instant::now();
    let mut sessions = JoinSet::new();
    for (topic, sender, mut driver) in links {
        let message = Message {
            topic: topic.into(),
            payload: Bytes::from(vec![7; flood.payload_bytes]),
            qos: flood.qos,
            retain: false,
        };
        let at_once = flood.qos == Qos::AtMostOnce;
        sessions.spawn(async move {
            let feed = async {
                for _ in 0..each {
                    sender.publish(message.clone()).await?;
                }
                std::future::pending::<Result<(), LinkError>>().await
            };
            let drive = async {
                let mut done = 0;
                while done < each {
                    match driver.poll().await? {
                        LinkEvent::Acknowledged { .. } => done += 1,
                        LinkEvent::Sent(0) if at_once => done += 1,
                        _ => {}
                    }
                }
                Ok(())
            };
            tokio::select! {
                end = feed => end,
                end = drive => end,
            }
        });
    }
    while let Some(session) = sessions.join_next().await {
        session.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    }
    Ok(begun.elapsed())
}

/// Any bytes as a trace, and as the body of a block whose checksum is right: entries or an error.
pub fn trace(bytes: &[u8]) {
    let mut file = crate::trace::MAGIC.to_vec();
    let mut block = Vec::new();
    block::begin(&mut block);
    block.extend_from_slice(bytes);
    block::seal(&mut block);
    file.extend_from_slice(&block);
    file.extend_from_slice(bytes);
    for file in [bytes, &file] {
        let Ok(mut reader) = TraceReader::new(file, Path::new("fuzzed")) else { continue };
        let mut last = 0;
        while let Ok(Some(entry)) = reader.next_entry() {
            match entry {
                Entry::Recording { .. } => last = 0,
                Entry::Interruption { at_us } => {
                    assert!(at_us >= last, "time goes on");
                    last = at_us;
                }
                Entry::Message(seen) => {
                    assert!(seen.at_us >= last, "time goes on");
                    last = seen.at_us;
                    let at = usize::try_from(reader.payload_at()).unwrap_or(usize::MAX);
                    let payload = file.get(at..at.saturating_add(seen.payload.len()));
                    assert_eq!(
                        payload,
                        Some(&seen.payload[..]),
                        "the payload is where it is said to be"
                    );
                }
            }
        }
    }
}
