//! Golden bytes: what one version wrote the next one reads.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::handler::QoS;
use crate::message::Message;
use crate::parcel::{Parcel, State};
use crate::persist::codec::{self, *};
use crate::subscriptions::Subscription;
use crate::wire::{PublishProperties, RetainHandling, SubscribeOptions, Will};

fn stored_message() -> StoredMessage {
    let message = Message {
        topic: "a/b".into(),
        payload: Bytes::from_static(b"hi"),
        qos: QoS::AtLeastOnce,
        retain: true,
        from: "me".into(),
        properties: PublishProperties { forwarded: Bytes::from_static(&[1, 1]), expiry: None },
        expires: None,
        order: 7,
    };
    StoredMessage { message: Arc::new(message), expires_ms: 0x0102 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const MESSAGE: &str = "0101020100000000000007000000000000000300000061\
                       2f62020000006d65020000000101020000006869";

#[test]
fn messages_and_deliveries() {
    let message = stored_message();
    assert_eq!(hex(&codec::message(&message)), MESSAGE);
    let read = read_message(&codec::message(&message)).unwrap();
    assert_eq!(format!("{read:?}"), format!("{message:?}"));
    let delivery = StoredDelivery {
        message,
        qos: QoS::ExactlyOnce,
        retain: false,
        ids: vec![1, 300],
        share: Some("$share/g/#".into()),
    };
    let bytes = codec::delivery(&delivery);
    let share = "010a0000002473686172652f672f23";
    assert_eq!(hex(&bytes), format!("020002000000010000002c010000{share}{MESSAGE}"));
    assert_eq!(format!("{:?}", read_delivery(&bytes).unwrap()), format!("{delivery:?}"));
}

#[test]
fn sessions_and_what_they_hold() {
    let will = Will {
        topic: "w".into(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay: 5,
        properties: PublishProperties { forwarded: Bytes::new(), expiry: Some(9) },
    };
    let with_will = StoredSession {
        number: 3,
        expiry_s: 60,
        ends_ms: 1000,
        will: Some(StoredWill { due_ms: 500, will }),
        owner: None,
    };
    let bytes = codec::session(&with_will);
    assert_eq!(
        hex(&bytes),
        "03000000000000003c000000e80300000000000001f4010000000000000101050000000109000000\
         0100000077000000000400000067 6f6e65"
            .replace(' ', "")
    );
    assert_eq!(read_session(&bytes).unwrap(), with_will);
    let connected = StoredSession { ends_ms: NEVER, will: None, ..with_will };
    let bytes = codec::session(&connected);
    assert_eq!(hex(&bytes), "03000000000000003c000000ffffffffffffffff00");
    assert_eq!(read_session(&bytes).unwrap(), connected);
    let owned = StoredSession { owner: Some("ada".into()), ..connected };
    let bytes = codec::session(&owned);
    assert_eq!(hex(&bytes), "03000000000000003c000000ffffffffffffffff0003000000616461");
    assert_eq!(read_session(&bytes).unwrap(), owned);

    let sent = StoredInFlight { id: 258, released: true };
    assert_eq!(hex(&codec::in_flight(sent)), "020101");
    assert_eq!(read_in_flight(&codec::in_flight(sent)), Ok(sent));

    let subscription = Subscription {
        filter: "f/#".into(),
        options: SubscribeOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::IfNew,
        },
        id: Some(4),
    };
    let bytes = codec::subscription(&subscription);
    assert_eq!(hex(&bytes), "02070104000000");
    let read = read_subscription("f/#", &bytes).unwrap();
    assert_eq!(format!("{read:?}"), format!("{subscription:?}"));
}

#[test]
fn parcels() {
    let parcel = Parcel {
        id: 1,
        client: "c".into(),
        topic: "t".into(),
        payload: Bytes::from_static(b"p"),
        sent_ms: 2,
        expires_ms: 3,
        state: State::Delivered { at_ms: 4 },
        answer: Some(Bytes::from_static(b"a")),
    };
    let bytes = codec::parcel(&parcel);
    assert_eq!(
        hex(&bytes),
        "0100000000000000020000000000000003000000000000000104000000000000000101000000610100000063\
         01000000740100000070"
    );
    assert_eq!(read_parcel(&bytes), Ok(parcel));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_only_whole_values_are_read(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        cut in any::<prop::sample::Index>(),
    ) {
        let _any = (read_message(&bytes).is_ok(), read_delivery(&bytes).is_ok());
        let _any = (read_session(&bytes).is_ok(), read_in_flight(&bytes).is_ok());
        let _any = (read_subscription("f", &bytes).is_ok(), read_parcel(&bytes).is_ok());
        let whole = codec::message(&stored_message());
        prop_assert!(read_message(&whole[..cut.index(whole.len())]).is_err());
        prop_assert!(read_message(&[&whole[..], &[0]].concat()).is_err());
    }
}
