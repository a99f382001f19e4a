//! Each limit of the table in docs/limits.md, passed by a client of the real binary: what is said there becomes
//! of the client, and the metric that is named there counts it.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;

use support::raw::{PINGREQ, Raw, connect, packet, publish, text};
use support::{DEADLINE, Service, wait_for};
use tokio::io::AsyncWriteExt as _;

const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A service with `limits`, and a client that passes one of them: each of the series in `counted`, 0
/// before, is not 0 then.
async fn passed(limits: &[(&str, &str)], counted: &[&str], client: impl AsyncFn(&Service)) {
    let data = tempfile::tempdir().unwrap();
    let variable = |key: &str| format!("LOUSHAN__{}", key.to_uppercase().replace('.', "__"));
    let env: Vec<_> = limits.iter().map(|(key, value)| (variable(key), *value)).collect();
    let env: Vec<_> = env.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let service = Service::start_with(data.path(), "127.0.0.1:0", "127.0.0.1:0", &env);
    let text = wait_for("the metrics", || service.get("/metrics").ok());
    for series in counted {
        assert_eq!(value(&text, series), 0.0, "{series}");
    }
    client(&service).await;
    for series in counted {
        wait_for(series, || {
            let text = service.get("/metrics").ok()?;
            (value(&text, series) > 0.0).then_some(())
        });
    }
    assert!(service.terminate().success());
}

fn value(metrics: &str, series: &str) -> f64 {
    let behind = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(behind).unwrap_or(0.0)
}

async fn is_closed(mut raw: Raw) {
    assert!(raw.closes_within(DEADLINE).await, "it is not closed");
}

/// Publishes so often, and has every PUBACK.
async fn publishes(address: SocketAddr, topic: &str, count: u16, payload: &[u8]) {
    let mut raw = Raw::connected(address, "publisher").await;
    let all: Vec<_> = (1..=count).flat_map(|id| publish(topic, id, payload)).collect();
    raw.send(&all).await;
    for id in 1..=count {
        assert_eq!(raw.next().await, Some((0x40, id.to_be_bytes().to_vec())), "PUBACK");
    }
}

/// A message of QoS 0 that nobody hears of, and a ping that says it was read.
async fn publishes_at_most_once(address: SocketAddr, topic: &str, payload: &[u8]) {
    let mut raw = Raw::connected(address, "publisher").await;
    raw.send(&packet(0x30, &[&text(topic), payload].concat())).await;
    raw.send(&PINGREQ).await;
    assert_eq!(raw.next().await, Some((0xd0, vec![])));
}

#[tokio::test]
async fn connections_are_bounded() {
    for (key, result) in
        [("mqtt.max_connections", "full"), ("mqtt.max_connections_per_address", "address_full")]
    {
        let counted = format!("loushan_connects_total{{result=\"{result}\"}}");
        passed(&[(key, "2")], &[&counted], async |service| {
            let _first = Raw::connected(service.mqtt, "1").await;
            let _second = Raw::connected(service.mqtt, "2").await;
            is_closed(Raw::open(service.mqtt).await).await;
        })
        .await;
    }
}

#[tokio::test]
async fn whoever_does_not_get_on_is_not_waited_for() {
    let counted = ["loushan_connects_total{result=\"timeout\"}"];
    passed(&[("mqtt.connect_timeout", "200ms")], &counted, async |service| {
        is_closed(Raw::open(service.mqtt).await).await;
    })
    .await;
    let limits = [
        ("mqtt.ws_listen", "127.0.0.1:0"),
        ("mqtt.handshake_timeout", "500ms"),
        ("mqtt.max_handshakes", "1"),
    ];
    let counted = [
        "loushan_connects_total{result=\"handshake_timeout\"}",
        "loushan_connects_total{result=\"handshake_busy\"}",
    ];
    passed(&limits, &counted, async |service| {
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(Raw::open(service.address("ws")).await);
        }
        for one in silent {
            is_closed(one).await;
        }
    })
    .await;
    let counted = ["loushan_disconnects_total{reason=\"keep_alive\"}"];
    passed(&[], &counted, async |service| {
        is_closed(Raw::connected_as(service.mqtt, &connect("c", 1, None)).await).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_too_fast_is_read_more_slowly() {
    let counted = ["loushan_read_pauses_total{reason=\"rate\"}"];
    for limit in [("mqtt.max_publishes_per_second", "20"), ("mqtt.max_bytes_per_second", "1KiB")] {
        passed(&[limit], &counted, async |service| {
            publishes(service.mqtt, "t", 30, &[7; 50]).await;
        })
        .await;
    }
}

#[tokio::test]
async fn packets_topics_and_subscriptions_are_bounded() {
    let counted = ["loushan_disconnects_total{reason=\"invalid\"}"];
    passed(&[("mqtt.max_packet_bytes", "1KiB")], &counted, async |service| {
        let mut raw = Raw::connected(service.mqtt, "c").await;
        raw.send(&publish("t", 1, &[7; 2000])).await;
        is_closed(raw).await;
    })
    .await;
    for (limit, topic) in [
        (("mqtt.max_topic_levels", "3"), "a/b/c/d".to_owned()),
        (("mqtt.max_topic_bytes", "64B"), "a".repeat(65)),
    ] {
        passed(&[limit], &["loushan_topics_refused_total"], async |service| {
            let mut raw = Raw::connected(service.mqtt, "c").await;
            raw.send(&publish(&topic, 1, b"")).await;
            is_closed(raw).await;
        })
        .await;
    }
    let counted = ["loushan_subscriptions_refused_total"];
    passed(&[("mqtt.max_subscriptions", "1")], &counted, async |service| {
        let mut raw = Raw::connected(service.mqtt, "c").await;
        raw.subscribe("a", 1).await;
        raw.send(&packet(0x82, &[&[0, 2], text("b").as_slice(), &[1]].concat())).await;
        assert_eq!(raw.next().await, Some((0x90, vec![0, 2, 0x80])));
    })
    .await;
}

#[tokio::test]
async fn what_is_kept_for_clients_is_bounded() {
    let queue = ("mqtt.subscriber_queue_bytes", "1KiB");
    let counted = ["loushan_disconnects_total{reason=\"slow_subscriber\"}"];
    passed(&[queue], &counted, async |service| {
        let mut deaf = Raw::connected(service.mqtt, "deaf").await;
        deaf.subscribe("q", 1).await;
        publishes(service.mqtt, "q", 5, &[7; 400]).await;
        is_closed(deaf).await;
    })
    .await;
    let counted = ["loushan_subscriber_messages_dropped_total"];
    passed(&[queue], &counted, async |service| {
        let mut subscriber = Raw::connected(service.mqtt, "subscriber").await;
        subscriber.subscribe("q", 0).await;
        publishes_at_most_once(service.mqtt, "q", &[7; 2000]).await;
        // Its loss is all that becomes of the subscriber.
        let counted = || (service.metric(counted[0]) > 0.0).then_some(());
        wait_for("the loss", counted);
        subscriber.send(&PINGREQ).await;
        assert_eq!(subscriber.next().await, Some((0xd0, vec![])));
    })
    .await;
    let counted = ["loushan_absent_messages_refused_total"];
    passed(&[queue], &counted, async |service| {
        // A session that outlives its connection.
        let body = [text("MQTT").as_slice(), &[4, 0, 0, 60], &text("away")].concat();
        let mut away = Raw::connected_as(service.mqtt, &packet(0x10, &body)).await;
        away.subscribe("q", 1).await;
        away.send(&DISCONNECT).await;
        is_closed(away).await;
        publishes(service.mqtt, "q", 5, &[7; 400]).await;
    })
    .await;
    let counted = ["loushan_retained_refused_total"];
    passed(&[("mqtt.retained_bytes", "0B")], &counted, async |service| {
        let mut raw = Raw::connected(service.mqtt, "c").await;
        raw.send(&packet(0x33, &[text("t").as_slice(), &[0, 1, 7]].concat())).await;
        assert_eq!(raw.next().await, Some((0x40, vec![0, 1])));
    })
    .await;
    let counted = ["loushan_wills_refused_total"];
    passed(&[("mqtt.total_will_bytes", "0B")], &counted, async |service| {
        let mut raw = Raw::open(service.mqtt).await;
        raw.send(&connect("c", 60, Some(("t", "gone")))).await;
        assert_eq!(raw.next().await, Some((0x20, vec![0, 3])));
    })
    .await;
    let counted = ["loushan_live_feed_dropped_total"];
    passed(&[("mqtt.live_feed_bytes", "1KiB")], &counted, async |service| {
        let mut subscriber = Raw::connected(service.mqtt, "subscriber").await;
        subscriber.subscribe("q", 0).await;
        publishes_at_most_once(service.mqtt, "q", &[7; 2000]).await;
    })
    .await;
}

#[tokio::test]
async fn the_memory_of_buffers_is_bounded() {
    let counted = ["loushan_disconnects_total{reason=\"write_timeout\"}"];
    passed(&[("mqtt.write_timeout", "1s")], &counted, async |service| {
        let mut deaf = Raw::open_small(service.mqtt).await;
        deaf.send(&connect("deaf", 0, None)).await;
        let pings = PINGREQ.repeat(10_000);
        while deaf.0.write_all(&pings).await.is_ok() {}
    })
    .await;
    let counted = [
        "loushan_read_pauses_total{reason=\"memory\"}",
        "loushan_connects_total{result=\"memory\"}",
        "loushan_disconnects_total{reason=\"memory\"}",
    ];
    passed(&[("mqtt.total_buffer_bytes", "1MiB")], &counted, async |service| {
        let part = publish("t", 1, &vec![7; 1_000_000]);
        let mut greedy = Vec::new();
        for id in ["1", "2"] {
            let mut raw = Raw::connected(service.mqtt, id).await;
            let part = part[..900_000].to_vec();
            greedy.push(tokio::spawn(async move {
                // It may be closed before all of it is taken.
                drop(raw.0.write_all(&part).await);
                is_closed(raw).await;
            }));
        }
        loop {
            let mut raw = Raw::open(service.mqtt).await;
            drop(raw.0.write_all(&connect("new", 60, None)).await);
            if raw.next().await.is_none() {
                break;
            }
        }
        let mut ends = greedy.into_iter();
        // The one that is starved is closed; the other one may be let alone then.
        tokio::select! {
            end = ends.next().unwrap() => end.unwrap(),
            end = ends.next().unwrap() => end.unwrap(),
        }
    })
    .await;
}

#[tokio::test]
async fn http_connections_are_bounded() {
    let counted = ["loushan_http_connections_refused_total"];
    passed(&[("http.max_connections", "2")], &counted, async |service| {
        // Those of the metrics may not be gone yet.
        let mut open = Vec::new();
        loop {
            let mut raw = Raw::open(service.http).await;
            if raw.closes_within(std::time::Duration::from_millis(200)).await {
                break;
            }
            open.push(raw);
        }
        assert!(open.len() <= 2, "{}", open.len());
    })
    .await;
}
