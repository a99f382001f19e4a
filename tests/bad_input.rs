//! What senders get wrong: each fault is answered as the design says, kept in the dead letter, and
//! disturbs nobody else.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use loushan_schemas::pb;
use prost::Message;
use support::mqtt::Publisher;
use support::{Service, loushan, run, wait_for, wire};

const TOPIC: &str = "nb1/zunyi/bs1/u/t";

/// One field this build does not know, number 500, three bytes long.
const UNKNOWN_FIELD: [u8; 6] = [0xa2, 0x1f, 3, 1, 2, 3];

fn dead_letters(service: &Service) -> Vec<serde_json::Value> {
    let text = service.get("/api/v1/dead-letters/export").unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Publishes a payload of which nothing can be accepted, and expects the reason.
fn rejected(service: &Service, topic: &str, payload: Vec<u8>, reason: &str) {
    let before = dead_letters(service).len();
    let answer = Publisher::connect(service.mqtt, "bs1").publish(topic, payload);
    assert_eq!(answer.reason(), "PayloadFormatInvalid", "{reason}: {answer:?}");
    assert_eq!(answer.property("reason"), Some(reason), "{answer:?}");
    let letters = wait_for("the dead letter", || {
        let letters = dead_letters(service);
        (letters.len() > before).then_some(letters)
    });
    let letter = letters.last().unwrap();
    assert_eq!(letter["reason"], reason, "{letter}");
    assert_eq!(letter["topic"], topic, "{letter}");
}

#[test]
fn every_fault_of_a_payload_has_its_reason_and_its_dead_letter_while_others_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let mut good = Publisher::connect(service.mqtt, "bs2");
    let mut stored = 0;
    let mut beside = |service: &Service| {
        let payload = wire::one("bs2", 1, stored, 7);
        let answer = good.publish("nb1/zunyi/bs2/u/t", payload);
        assert_eq!(answer.reason(), "Success", "{answer:?}");
        stored += 1;
        assert!(service.get("/readyz").is_ok());
    };

    let whole = wire::one("bs1", 1, 0, 1);
    rejected(&service, TOPIC, Vec::new(), "empty");
    rejected(&service, TOPIC, whole[..whole.len() / 2].to_vec(), "undecodable");
    beside(&service);
    let noise: Vec<u8> =
        (0..500_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    rejected(&service, TOPIC, noise, "undecodable");
    let none = wire::batch("bs1", 1, 1, Vec::new());
    rejected(&service, TOPIC, none.encode_to_vec(), "no_readings");
    let many = (0..1001).map(|n| wire::parking(n, 0)).collect();
    rejected(&service, TOPIC, wire::batch("bs1", 1, 2, many).encode_to_vec(), "too_many_readings");
    beside(&service);
    let newer =
        pb::UplinkBatch { schema_major: 2, ..wire::batch("bs1", 1, 3, vec![wire::parking(1, 1)]) };
    rejected(&service, TOPIC, newer.encode_to_vec(), "schema_major");
    rejected(&service, TOPIC, wire::one("bs9", 1, 4, 1), "wrong_station");
    rejected(&service, "nb1/zunyi/bs1/u/x", wire::one("bs1", 1, 5, 1), "malformed_topic");
    beside(&service);
    // One MiB of empty readings: half a million messages for a decoder that does not count first.
    // It begins like a batch of this station, or it would be turned away for that.
    let head = wire::batch("bs1", 1, 6, Vec::new()).encode_to_vec();
    let bomb = [head, [0x3a, 0x00].repeat(500_000)].concat();
    rejected(&service, TOPIC, bomb, "too_many_readings");
    beside(&service);

    service.wait_until_quiet();
    assert_eq!(service.rows(), stored);
    assert_eq!(service.metric("loushan_readings_rejected_total"), 9.0);

    let (listed, text) = run(loushan().args(["dead-letters", "list", "--data"]).arg(dir.path()));
    assert!(listed, "{text}");
    assert!(text.contains("wrong_station") && text.contains(TOPIC), "{text}");
}

#[test]
fn of_a_partly_bad_batch_the_good_readings_are_stored_and_the_answer_counts_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let mut bad_imei = wire::parking(2, 1);
    bad_imei.imei += 1;
    let no_body = pb::Reading { body: None, ..wire::parking(3, 1) };
    let batch = wire::batch("bs1", 1, 0, vec![wire::parking(1, 1), bad_imei, no_body]);
    let answer = Publisher::connect(service.mqtt, "bs1").publish(TOPIC, batch.encode_to_vec());
    assert_eq!(answer.reason(), "Success", "{answer:?}");
    assert_eq!(answer.property("rejected"), Some("2"));
    assert_eq!(answer.property("reason"), Some("bad_imei"));
    service.wait_until_quiet();
    assert_eq!(service.rows(), 1);
    let letters = wait_for("two dead letters", || {
        let letters = dead_letters(&service);
        (letters.len() == 2).then_some(letters)
    });
    assert_eq!((&letters[0]["reason"], &letters[0]["reading"]), (&"bad_imei".into(), &1.into()));
    assert_eq!((&letters[1]["reason"], &letters[1]["reading"]), (&"no_body".into(), &2.into()));
}

#[test]
fn a_newer_senders_reading_is_kept_for_later_and_its_unknown_fields_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let mut publisher = Publisher::connect(service.mqtt, "bs1");
    // A body this build does not know: only the dead letter can hold it.
    let reading = pb::Reading { body: None, ..wire::parking(1, 1) };
    let mut bytes = reading.encode_to_vec();
    bytes.extend_from_slice(&UNKNOWN_FIELD);
    let batch = with_reading(&wire::batch("bs1", 1, 0, Vec::new()), &bytes);
    let answer = publisher.publish(TOPIC, batch);
    assert_eq!(answer.property("reason"), Some("newer_schema"), "{answer:?}");
    // A known body with an unknown field beside it: stored, and kept as well.
    let mut bytes = wire::parking(1, 2).encode_to_vec();
    bytes.extend_from_slice(&UNKNOWN_FIELD);
    let batch = with_reading(&wire::batch("bs1", 1, 1, Vec::new()), &bytes);
    assert_eq!(publisher.publish(TOPIC, batch).reason(), "Success");
    service.wait_until_quiet();
    assert_eq!(service.rows(), 1);
    let reasons: Vec<_> = dead_letters(&service).iter().map(|l| l["reason"].clone()).collect();
    assert_eq!(reasons, ["newer_schema", "unknown_fields"]);
}

/// A batch with one more reading, given as bytes.
fn with_reading(batch: &pb::UplinkBatch, reading: &[u8]) -> Vec<u8> {
    let mut bytes = batch.encode_to_vec();
    bytes.push(0x3a);
    prost::encoding::encode_varint(reading.len() as u64, &mut bytes);
    bytes.extend_from_slice(reading);
    bytes
}

#[test]
fn a_batch_sent_again_is_acknowledged_and_stored_once_and_a_reused_number_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Service::start(dir.path());
    let payload = wire::one("bs1", 1, 0, 1);
    for _ in 0..3 {
        let answer = Publisher::connect(service.mqtt, "bs1").publish(TOPIC, payload.clone());
        assert_eq!(answer.reason(), "Success", "{answer:?}");
    }
    service.wait_until_quiet();
    assert_eq!((service.rows(), service.figure("duplicate")), (1, 2));
    // The same number with other readings: decided reading by reading, never dropped.
    let other = wire::one("bs1", 1, 0, 2);
    Publisher::connect(service.mqtt, "bs1").publish(TOPIC, other);
    service.wait_until_quiet();
    assert_eq!(service.rows(), 2);

    // And known again after a restart.
    assert!(service.terminate().success());
    service = Service::start(dir.path());
    let answer = Publisher::connect(service.mqtt, "bs1").publish(TOPIC, payload);
    assert_eq!(answer.reason(), "Success", "{answer:?}");
    service.wait_until_quiet();
    assert_eq!((service.rows(), service.figure("duplicate")), (2, 1));
}

#[test]
fn a_faulty_configuration_is_refused_with_every_fault_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("loushan.toml");
    std::fs::write(
        &file,
        "[mqtt]\nlisten = \"nowhere\"\nlisten_port = 3\n[log]\nsync = \"sometimes\"\n[pineapple]\n",
    )
    .unwrap();
    let (valid, text) = run(loushan().arg("check-config").arg(&file));
    assert!(!valid);
    for part in ["mqtt.listen", "nowhere", "listen_port", "log.sync", "sometimes", "pineapple"] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let (valid, text) =
        run(loushan().arg("serve").arg("--config").arg(dir.path().join("none.toml")));
    assert!(!valid && text.contains("none.toml"), "{text}");

    let (printed, defaults) = run(loushan().arg("print-config"));
    assert!(printed);
    std::fs::write(&file, &defaults).unwrap();
    let (valid, text) = run(loushan().arg("check-config").arg(&file));
    assert!(valid, "{text}");
}

#[test]
fn faults_in_the_files_that_a_configuration_names_are_told_before_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("loushan.toml");
    let users = dir.path().join("users");
    std::fs::write(&users, "bob king -\n").unwrap();
    let text = format!(
        "[mqtt]\ntls_listen = \"127.0.0.1:0\"\n[mqtt.tls]\ncertificate = \"nowhere.crt\"\n\
         key = \"nowhere.key\"\n[auth]\nusers_file = {:?}\n",
        users.display()
    );
    std::fs::write(&file, text).unwrap();
    let (valid, text) = run(loushan().arg("check-config").arg(&file));
    assert!(!valid);
    for part in ["mqtt.tls.certificate: nowhere.crt", "auth.users_file", "\"king\" is no role"] {
        assert_eq!(text.matches(part).count(), 1, "{part:?} is not told once in:\n{text}");
    }
}
