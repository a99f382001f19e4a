//! One connection through rumqttc, MQTT 3.1.1 and 5 behind one face.
//!
//! A link lives for one connection. rumqttc would reconnect by itself, but it forgets what was not
//! acknowledged when the server says *no session present*, and keeps it when not; so after an error
//! the link is thrown away and the publisher, which remembers, opens a new one.

use std::time::Duration;

use bytes::Bytes;
use loushan_schemas::limits::PAYLOAD_BYTES;
use rumqttc::v5::mqttbytes::v5::PubAckReason;

use crate::options::MqttVersion;
use crate::target::Target;

/// Stations ping this often when they have nothing to say.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// For a connect, and for a write that the server does not take: it may be holding us back for a
/// while, which is its right.
const PATIENCE_S: u64 = 15;

/// What a connection is opened with.
#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    pub(crate) version: MqttVersion,
    pub(crate) target: Target,
    pub(crate) client_id: String,
    pub(crate) state_topic: String,
    /// The retained message that the server publishes for us if we vanish.
    pub(crate) will: Bytes,
    /// Publishes that may be unacknowledged.
    pub(crate) window: u16,
}

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    Connected,
    /// The next publish, in the order they were handed over, has this packet id.
    Sent(u16),
    Acknowledged {
        pkid: u16,
        /// With a reason code of 0x80 or above, which says this.
        refused: Option<&'static str>,
    },
    /// A command for the station: nothing else is subscribed to.
    Commanded(Bytes),
    /// Our DISCONNECT is on its way.
    Disconnected,
    Other,
}

/// The half that publishes.
#[derive(Debug)]
pub(crate) enum LinkSender {
    V311(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// The half that must be polled for anything to happen.
pub(crate) enum LinkDriver {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<rumqttc::v5::EventLoop>),
}

/// A connection that ended, or never began.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LinkError(String);

pub(crate) fn open(options: &LinkOptions) -> (LinkSender, LinkDriver) {
    // Packet ids are taken in turn up to the session's bound. With room beyond the window, an id
    // whose acknowledgement is late (lanes are acknowledged apart) is not in the way of others.
    let ids = options.window.saturating_mul(4).saturating_add(8);
    let capacity = usize::from(options.window) + 4;
    let Target { host, port, credentials } = &options.target;
    match options.version {
        MqttVersion::V311 => {
            let mut o = rumqttc::MqttOptions::new(&options.client_id, host, *port);
            o.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_inflight(ids);
            o.set_max_packet_size(PAYLOAD_BYTES, 2 * PAYLOAD_BYTES);
            o.set_last_will(rumqttc::LastWill::new(
                &options.state_topic,
                options.will.to_vec(),
                rumqttc::QoS::AtLeastOnce,
                true,
            ));
            if let Some((user, password)) = credentials {
                o.set_credentials(user, password);
            }
            let (client, mut driver) = rumqttc::AsyncClient::new(o, capacity);
            let mut network = driver.network_options();
            network.set_tcp_nodelay(true);
            network.set_connection_timeout(PATIENCE_S);
            driver.set_network_options(network);
            (LinkSender::V311(client), LinkDriver::V311(Box::new(driver)))
        }
        MqttVersion::V5 => {
            use rumqttc::v5::mqttbytes::QoS;
            use rumqttc::v5::mqttbytes::v5::LastWill;
            let mut o = rumqttc::v5::MqttOptions::new(&options.client_id, host, *port);
            o.set_keep_alive(KEEP_ALIVE)
                .set_clean_start(true)
                .set_connection_timeout(PATIENCE_S)
                .set_outgoing_inflight_upper_limit(ids);
            let (topic, will) = (&options.state_topic, options.will.to_vec());
            o.set_last_will(LastWill::new(topic, will, QoS::AtLeastOnce, true, None));
            if let Some((user, password)) = credentials {
                o.set_credentials(user, password);
            }
            let mut network = o.network_options();
            network.set_tcp_nodelay(true);
            o.set_network_options(network);
            let (client, driver) = rumqttc::v5::AsyncClient::new(o, capacity);
            (LinkSender::V5(client), LinkDriver::V5(Box::new(driver)))
        }
    }
}

impl LinkSender {
    /// Hands over a publish at QoS 1.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        retain: bool,
        payload: Bytes,
    ) -> Result<(), LinkError> {
        match self {
            Self::V311(client) => client
                .publish_bytes(topic, rumqttc::QoS::AtLeastOnce, retain, payload)
                .await
                .map_err(|e| LinkError(e.to_string())),
            Self::V5(client) => client
                .publish_bytes(topic, rumqttc::v5::mqttbytes::QoS::AtLeastOnce, retain, payload)
                .await
                .map_err(|e| LinkError(e.to_string())),
        }
    }

    /// Subscribes at QoS 1.
    pub(crate) async fn subscribe(&self, filter: &str) -> Result<(), LinkError> {
        match self {
            Self::V311(client) => client
                .subscribe(filter, rumqttc::QoS::AtLeastOnce)
                .await
                .map_err(|e| LinkError(e.to_string())),
            Self::V5(client) => client
                .subscribe(filter, rumqttc::v5::mqttbytes::QoS::AtLeastOnce)
                .await
                .map_err(|e| LinkError(e.to_string())),
        }
    }

    /// Asks for a DISCONNECT behind everything handed over so far.
    pub(crate) async fn disconnect(&self) -> Result<(), LinkError> {
        match self {
            Self::V311(client) => client.disconnect().await.map_err(|e| LinkError(e.to_string())),
            Self::V5(client) => client.disconnect().await.map_err(|e| LinkError(e.to_string())),
        }
    }
}

impl LinkDriver {
    /// The next event. Not cancel-safe: a publish may be lost to the session if the future is dropped
    /// while it writes, so a driver is polled to the end of its connection by one future.
    pub(crate) async fn poll(&mut self) -> Result<LinkEvent, LinkError> {
        match self {
            Self::V311(driver) => {
                use rumqttc::{Event, Outgoing, Packet};
                let event = driver.poll().await.map_err(|e| LinkError(e.to_string()))?;
                Ok(match event {
                    Event::Incoming(Packet::ConnAck(_)) => LinkEvent::Connected,
                    Event::Incoming(Packet::PubAck(ack)) => {
                        LinkEvent::Acknowledged { pkid: ack.pkid, refused: None }
                    }
                    Event::Incoming(Packet::Publish(publish)) => {
                        LinkEvent::Commanded(publish.payload)
                    }
                    Event::Outgoing(Outgoing::Publish(pkid)) => LinkEvent::Sent(pkid),
                    Event::Outgoing(Outgoing::Disconnect) => LinkEvent::Disconnected,
                    _ => LinkEvent::Other,
                })
            }
            Self::V5(driver) => {
                use rumqttc::Outgoing;
                use rumqttc::v5::Event;
                use rumqttc::v5::mqttbytes::v5::Packet;
                let event = driver.poll().await.map_err(|e| LinkError(e.to_string()))?;
                Ok(match event {
                    Event::Incoming(Packet::ConnAck(_)) => LinkEvent::Connected,
                    Event::Incoming(Packet::PubAck(ack)) => {
                        LinkEvent::Acknowledged { pkid: ack.pkid, refused: refusal(ack.reason) }
                    }
                    Event::Incoming(Packet::Publish(publish)) => {
                        LinkEvent::Commanded(publish.payload)
                    }
                    Event::Outgoing(Outgoing::Publish(pkid)) => LinkEvent::Sent(pkid),
                    Event::Outgoing(Outgoing::Disconnect) => LinkEvent::Disconnected,
                    _ => LinkEvent::Other,
                })
            }
        }
    }
}

const fn refusal(reason: PubAckReason) -> Option<&'static str> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        PubAckReason::UnspecifiedError => Some("unspecified error"),
        PubAckReason::ImplementationSpecificError => Some("implementation specific error"),
        PubAckReason::NotAuthorized => Some("not authorized"),
        PubAckReason::TopicNameInvalid => Some("topic name invalid"),
        PubAckReason::PacketIdentifierInUse => Some("packet identifier in use"),
        PubAckReason::QuotaExceeded => Some("quota exceeded"),
        PubAckReason::PayloadFormatInvalid => Some("payload format invalid"),
    }
}
