//! Shared subscriptions (section 4.8.2).

use super::client::Client;
use super::running;
use super::wire::{Connect, PUBACK, PUBREC, Publish, V5, ack, ack_reason, property, subscribe};

const NO_LOCAL: u8 = 4;

// 5: [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[tokio::test]
async fn a_shared_filter_has_a_share_name_without_wildcards_and_a_filter_behind_it() {
    let running = running().await;
    let mut client = Client::new(&running, V5, "c").await;
    for good in
        ["$share/g/a", "$share/g/+", "$share/g/#", "$share/g//", "$share/g//a", "$share/ /a"]
    {
        assert_eq!(client.subscribe(good, 1).await, 1, "{good:?}");
    }
    for bad in [
        "$share/g",
        "$share//a",
        "$share/",
        "$share/g/",
        "$share/+/a",
        "$share/#/a",
        "$share/g+/a",
        "$share/g#/a",
        "$share/g/a#",
        "$share/g/#/a",
        "$share/#",
    ] {
        assert_eq!(client.subscribe(bad, 1).await, 0x8f, "{bad:?}");
    }
    client.ping().await;
}

// 5: [MQTT-3.8.3-4]
#[tokio::test]
async fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let running = running().await;
    let mut client = Client::new(&running, V5, "c").await;
    client.send(&subscribe(V5, 1, &[("plain", NO_LOCAL), ("$share/g/a", NO_LOCAL)])).await;
    client.refused(0x82, "No Local on a shared subscription").await;
}

// 5: [MQTT-4.8.2-3] [MQTT-3.8.4-8]
#[tokio::test]
async fn each_member_gets_its_share_at_its_own_quality_of_service() {
    let running = running().await;
    let mut members = Vec::new();
    for qos in [0, 1, 2] {
        let mut member = Client::new(&running, V5, &format!("m{qos}")).await;
        assert_eq!(member.subscribe("$share/g/t/+", qos).await, qos);
        members.push(member);
    }
    let mut alone = Client::new(&running, V5, "alone").await;
    alone.subscribe("t/#", 2).await;
    let mut publisher = Client::new(&running, V5, "p").await;
    for n in 0..30 {
        publisher.deliver(&Publish::new(2, "t/x", [n])).await;
        let message = alone.message().await;
        assert_eq!((message.qos, message.payload.clone()), (2, vec![n]));
        alone.take(&message).await;
        // It comes to one of them, and nothing comes to the others.
        let [zero, one, two] = &mut members[..] else { unreachable!() };
        let (qos, message) = tokio::select! {
            message = zero.message() => (0, message),
            message = one.message() => (1, message),
            message = two.message() => (2, message),
        };
        assert_eq!((message.qos, message.payload.clone()), (qos, vec![n]));
        members[usize::from(qos)].take(&message).await;
    }
    for member in &mut members {
        member.silence().await;
    }
}

// 5: [MQTT-4.8.2-4] [MQTT-4.8.2-5]
#[tokio::test]
async fn a_qos_2_message_that_has_begun_is_its_members_and_goes_to_no_other() {
    let running = running().await;
    let mut publisher = Client::new(&running, V5, "p").await;
    let (mut first, _) = Client::kept(&running, V5, "first").await;
    first.subscribe("$share/g/t", 2).await;
    publisher.deliver(&Publish::new(2, "t", "begun")).await;
    let begun = first.message().await;
    let mut second = Client::new(&running, V5, "second").await;
    second.subscribe("$share/g/t", 2).await;
    first.vanish();
    second.silence().await;
    // It is completed when its member returns.
    let (mut first, present) = Client::kept(&running, V5, "first").await;
    assert!(present);
    let again = first.message().await;
    assert_eq!(again, Publish { dup: true, ..begun });
    first.take(&again).await;
    first.silence().await;
    // And if its member's session ends it is nobody's.
    second.unsubscribe("$share/g/t").await;
    publisher.deliver(&Publish::new(2, "t", "begun again")).await;
    let begun = first.message().await;
    second.subscribe("$share/g/t", 2).await;
    first.send(&ack(PUBREC, begun.id)).await;
    first.vanish();
    Client::new(&running, V5, "first").await.leave().await;
    second.silence().await;
}

// 5: [MQTT-4.8.2-6]
#[tokio::test]
async fn a_message_that_a_member_refuses_goes_to_no_other() {
    let running = running().await;
    let mut publisher = Client::new(&running, V5, "p").await;
    let connect = Connect::clean("first").with(property::RECEIVE_MAXIMUM, 1);
    let mut first = Client::accepted(&running, V5, &connect).await;
    first.subscribe("$share/g/t", 2).await;
    for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
        publisher.deliver(&Publish::new(qos, "t", "refused")).await;
        let message = first.message().await;
        let mut second = Client::new(&running, V5, "second").await;
        second.subscribe("$share/g/t", 2).await;
        first.send(&ack_reason(kind, message.id, 0x80)).await;
        first.silence().await;
        second.silence().await;
        second.leave().await;
    }
}
