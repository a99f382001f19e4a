//! The generator: MQTT 3.1.1 by hand, so that it costs as little as can be.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use loushan_schemas::ids::Imei;
use loushan_schemas::pb;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is sent.
pub(crate) struct Load {
    /// Connections.
    pub clients: usize,
    /// Unacknowledged publishes of each.
    pub window: usize,
    /// Readings of each publish.
    pub batch: usize,
    /// Publishes in all.
    pub publishes: usize,
}

/// What came of it.
pub(crate) struct Outcome {
    /// Acknowledged publishes.
    pub publishes: usize,
    /// From the first publish to the last acknowledgement.
    pub elapsed: Duration,
    /// Of the processor, of the generator's thread in that time.
    #[allow(dead_code)] // each bench uses a part of this
    pub used: Duration,
    /// From handing a publish to the socket to reading its acknowledgement, in microseconds.
    pub latency_us: Histogram<u64>,
}

impl Outcome {
    /// Acknowledged publishes per second.
    pub(crate) fn publishes_per_second(&self) -> f64 {
        self.publishes as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs the load against a broker.
pub(crate) fn run(load: &Load, address: SocketAddr) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let each = load.publishes / load.clients;
        let mut ready = Vec::new();
        for client in 0..load.clients {
            ready.push((connect(address, client).await, encode(load, client, each)));
        }
        let (started, before) = (Instant::now(), processor());
        let tasks: Vec<_> = ready
            .into_iter()
            .map(|(socket, packets)| tokio::spawn(publish(socket, packets, load.window)))
            .collect();
        let mut latency_us = Histogram::new(3).unwrap();
        for task in tasks {
            latency_us.add(task.await.unwrap()).unwrap();
        }
        let used = processor().saturating_sub(before);
        Outcome { publishes: each * load.clients, elapsed: started.elapsed(), used, latency_us }
    })
}

/// How much processor time this thread has had.
pub(crate) fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The same at QoS 0, which nobody acknowledges: how long until the last byte was handed over, and of the
/// processor.
#[allow(dead_code)] // each bench uses a part of this
pub(crate) fn run_qos_0(load: &Load, address: SocketAddr) -> (Duration, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let each = load.publishes / load.clients;
        let mut ready = Vec::new();
        for client in 0..load.clients {
            let packets = encode(load, client, each).into_iter().map(at_qos_0);
            ready.push((connect(address, client).await, packets.collect::<Vec<_>>()));
        }
        let (started, before) = (Instant::now(), processor());
        let window = load.window;
        let send = move |(mut socket, packets): (TcpStream, Vec<Vec<u8>>)| async move {
            for packets in packets.chunks(window) {
                socket.write_all(&packets.concat()).await.unwrap();
            }
        };
        let tasks: Vec<_> = ready.into_iter().map(|client| tokio::spawn(send(client))).collect();
        for task in tasks {
            task.await.unwrap();
        }
        (started.elapsed(), processor().saturating_sub(before))
    })
}

/// A packet without its packet id.
fn at_qos_0(packet: Vec<u8>) -> Vec<u8> {
    let topic = packet.windows(4).position(|four| four == b"nb1/").unwrap();
    let end = topic + usize::from(u16::from_be_bytes([packet[topic - 2], packet[topic - 1]]));
    let mut length = packet.len() - (topic - 2) - 2;
    let mut shorter = vec![0x30];
    while length >= 128 {
        shorter.push((length % 128) as u8 | 0x80);
        length /= 128;
    }
    shorter.push(length as u8);
    shorter.extend_from_slice(&packet[topic - 2..end]);
    shorter.extend_from_slice(&packet[end + 2..]);
    shorter
}

async fn connect(address: SocketAddr, client: usize) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let id = station(client);
    let mut packet = vec![0x10, (12 + id.len()) as u8];
    packet.extend_from_slice(b"\x00\x04MQTT\x04\x02\x00\x3c");
    packet.extend_from_slice(&(id.len() as u16).to_be_bytes());
    packet.extend_from_slice(id.as_bytes());
    socket.write_all(&packet).await.unwrap();
    let mut connack = [0_u8; 4];
    socket.read_exact(&mut connack).await.unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0], "the broker refused the connection");
    socket
}

fn station(client: usize) -> String {
    format!("bs{client:04}")
}

/// All publishes of a client, each a whole packet.
fn encode(load: &Load, client: usize, publishes: usize) -> Vec<Vec<u8>> {
    #[allow(clippy::disallowed_methods)] // the readings are of now, and nothing here is held still
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let began = now.as_millis() as u64 - 24 * 3600 * 1000;
    let topic = format!("nb1/zunyi/{}/u/t", station(client));
    (0..publishes)
        .map(|n| {
            let readings = (0..load.batch).map(|i| reading(client, n * load.batch + i)).collect();
            let batch = pb::UplinkBatch {
                schema_major: 1,
                station: station(client),
                session: 1,
                seq: n as u64,
                // A device's times rise, as real ones do: else the store would be asked for most.
                base_time_ms: began + 50 * n as u64,
                replay: false,
                readings,
            };
            let payload = batch.encode_to_vec();
            let mut packet = vec![0x32];
            let mut length = 2 + topic.len() + 2 + payload.len();
            while length >= 128 {
                packet.push((length % 128) as u8 | 0x80);
                length /= 128;
            }
            packet.push(length as u8);
            packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
            packet.extend_from_slice(topic.as_bytes());
            packet.extend_from_slice(&((n % 65_535) as u16 + 1).to_be_bytes());
            packet.extend_from_slice(&payload);
            packet
        })
        .collect()
}

/// A parking reading of the size real ones have, one of forty devices behind the station.
fn reading(client: usize, n: usize) -> pb::Reading {
    let device = n % 40;
    pb::Reading {
        imei: Imei::from_body(86_000_000_000_000 + (client * 100 + device) as u64).get(),
        seq: (n / 40) as u32,
        measured_delta_ms: -2_000 + (n % 40) as i64,
        heard_delta_ms: -500,
        trigger: pb::Trigger::Periodic.into(),
        clock: pb::ClockState::Synced.into(),
        radio: Some(pb::Radio {
            nrsrp_dbm: Some(-97),
            nrsrq_db: Some(-11),
            sinr_db: Some(7),
            ce_level: Some(0),
            cell_id: Some(1_048_577),
            ..Default::default()
        }),
        power: Some(pb::Power { battery_pct: Some(88), battery_mv: Some(3580) }),
        model_id: 1,
        body: Some(pb::reading::Body::Parking(pb::Parking {
            state: pb::parking::State::Occupied.into(),
            state_age_s: Some((n % 3600) as u32),
            mag_x_raw: Some(312),
            mag_y_raw: Some(-48),
            mag_z_raw: Some(911),
            change_count: Some((n / 40) as u32),
            temp_dc: Some(219),
            ..Default::default()
        })),
        boot_epoch: 1,
    }
}

/// Sends all packets with at most `window` of them unacknowledged, and times each.
async fn publish(mut socket: TcpStream, packets: Vec<Vec<u8>>, window: usize) -> Histogram<u64> {
    let mut latency_us = Histogram::new(3).unwrap();
    let mut sent: VecDeque<Instant> = VecDeque::with_capacity(window);
    let mut next = packets.iter();
    let mut acknowledged = 0;
    let mut out = Vec::new();
    let mut buffer = vec![0_u8; 4 * window.max(64)];
    let mut held = 0;
    while acknowledged < packets.len() {
        out.clear();
        while sent.len() < window {
            let Some(packet) = next.next() else { break };
            out.extend_from_slice(packet);
            sent.push_back(Instant::now());
        }
        if !out.is_empty() {
            socket.write_all(&out).await.unwrap();
        }
        let read = socket.read(&mut buffer[held..]).await.unwrap();
        assert!(read > 0, "the broker closed the connection");
        held += read;
        let now = Instant::now();
        let whole = held / 4 * 4;
        for packet in buffer[..whole].chunks_exact(4) {
            assert_eq!(packet[..2], [0x40, 2], "not a PUBACK");
            let since = sent.pop_front().expect("a PUBACK nobody waits for");
            latency_us.record(now.duration_since(since).as_micros() as u64).unwrap();
            acknowledged += 1;
        }
        buffer.copy_within(whole..held, 0);
        held -= whole;
    }
    latency_us
}
