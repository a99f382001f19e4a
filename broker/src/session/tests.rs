use super::*;
use crate::message::tests::message;

fn limits(session: usize, total: usize) -> Arc<QueueLimits> {
    Arc::new(QueueLimits::new(session, total))
}

pub(crate) fn session(client_id: &str) -> Arc<Session> {
    Arc::new(Session::new(client_id.into(), limits(10_000, 100_000)))
}

fn delivery(qos: QoS, payload: &str) -> Delivery {
    Delivery { message: message("t", payload), qos, retain: false, ids: Vec::new(), share: None }
}

fn sent(next: Option<Next>) -> Option<(u16, bool, String)> {
    match next? {
        Next::Publish { id, dup, delivery, .. } => {
            let payload = String::from_utf8(delivery.message.payload.to_vec()).unwrap();
            Some((id, dup, payload))
        }
        Next::Release(id) => Some((id, true, "PUBREL".to_owned())),
    }
}

#[test]
fn mqtt_4_4_0_1_what_was_not_acknowledged_is_sent_again_to_the_next_connection() {
    let session = session("s");
    session.connect();
    for payload in ["one", "two", "three", "four"] {
        assert!(session.enqueue(delivery(QoS::ExactlyOnce, payload)).had_room());
    }
    for (id, payload) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(sent(session.next(3)), Some((id, false, payload.to_owned())));
    }
    assert!(session.next(3).is_none(), "the receive maximum is 3");
    assert!(session.received(1) && !session.received(9));
    session.acknowledged(2);
    session.disconnect();
    session.connect();
    assert_eq!(sent(session.next(10)), Some((1, true, "PUBREL".to_owned())));
    assert_eq!(sent(session.next(10)), Some((3, true, "three".to_owned())));
    assert_eq!(sent(session.next(10)), Some((4, false, "four".to_owned())));
    assert!(session.next(10).is_none());
    for id in [1, 3, 4] {
        session.acknowledged(id);
    }
    assert_eq!((session.lock().bytes, session.limits.total.used()), (0, 0));
}

#[test]
fn nothing_of_qos_0_waits_for_a_client_that_is_away() {
    let session = session("s");
    session.enqueue(delivery(QoS::AtMostOnce, "early"));
    session.connect();
    session.enqueue(delivery(QoS::AtMostOnce, "zero"));
    session.enqueue(delivery(QoS::AtLeastOnce, "one"));
    session.disconnect();
    session.enqueue(delivery(QoS::AtMostOnce, "late"));
    session.connect();
    assert_eq!(sent(session.next(10)), Some((1, false, "one".to_owned())));
    assert!(session.next(10).is_none());
}

#[test]
fn a_full_queue_drops_qos_0_and_gives_up_on_who_does_not_take_the_rest() {
    let cost = message("t", "xx").cost();
    let limits = limits(2 * cost, 3 * cost);
    let [a, b] = ["a", "b"].map(|id| Session::new(id.into(), limits.clone()));
    a.connect();
    assert!(a.enqueue(delivery(QoS::AtMostOnce, "xx")).had_room());
    assert!(a.enqueue(delivery(QoS::AtLeastOnce, "xx")).had_room());
    assert!(!a.enqueue(delivery(QoS::AtMostOnce, "xx")).had_room() && !a.lock().overflowed);
    assert!(!a.enqueue(delivery(QoS::AtLeastOnce, "xx")).had_room() && a.lock().overflowed);
    // The bound on all sessions together counts as well.
    b.connect();
    assert!(b.enqueue(delivery(QoS::AtLeastOnce, "xx")).had_room());
    assert!(!b.enqueue(delivery(QoS::AtLeastOnce, "xx")).had_room() && b.lock().overflowed);
    drop(a);
    assert!(b.enqueue(delivery(QoS::AtLeastOnce, "xx")).had_room());
    drop(b);
    assert_eq!((limits.total.used(), limits.away.used()), (0, 0));
}

#[test]
fn clients_that_are_away_leave_half_of_the_room_to_those_that_are_here() {
    let cost = message("t", "xx").cost();
    let limits = limits(10 * cost, 8 * cost);
    let [here, a, b] = ["here", "a", "b"].map(|id| Session::new(id.into(), limits.clone()));
    here.connect();
    let put = |session: &Session| session.enqueue(delivery(QoS::AtLeastOnce, "xx"));
    for away in [&a, &b, &a, &b] {
        assert_eq!(put(away), Queued::Taken);
    }
    assert_eq!([put(&a), put(&b)], [Queued::NoRoomAway; 2]);
    assert_eq!([put(&here), put(&here), put(&here)], [Queued::Taken; 3]);
    // Who comes back counts among those that are here, and its room is another's.
    a.connect();
    assert_eq!([put(&a), put(&a)], [Queued::Taken, Queued::NoRoom]);
    let sent = std::iter::from_fn(|| a.next(10)).count();
    assert_eq!(sent, 3);
    (1..=3).for_each(|id| a.acknowledged(id));
    assert_eq!([put(&b), put(&b), put(&b)], [Queued::Taken, Queued::Taken, Queued::NoRoomAway]);
    a.disconnect();
    drop((a, b, here));
    assert_eq!((limits.total.used(), limits.away.used()), (0, 0));
}

#[test]
fn what_others_could_have_as_well_is_taken_only_by_who_is_still_where_it_was_thought_to_be() {
    let session = session("s");
    let shared = |qos| Delivery { share: Some("$share/g/t".into()), ..delivery(qos, "x") };
    assert_eq!(session.standing(), Standing::Away);
    assert!(
        !session.offer(shared(QoS::AtMostOnce), Standing::Away).had_room(),
        "nothing is kept at QoS 0"
    );
    session.connect();
    session.lock().receive_maximum = 2;
    assert_eq!(session.standing(), Standing::Free);
    assert!(
        !session.offer(shared(QoS::AtLeastOnce), Standing::Away).had_room(),
        "it has come back"
    );
    for _ in 0..3 {
        assert!(session.offer(shared(QoS::AtLeastOnce), Standing::Free).had_room());
    }
    assert!(session.enqueue(delivery(QoS::AtLeastOnce, "its own")).had_room());
    assert!(sent(session.next(2)).is_some() && sent(session.next(2)).is_some());
    assert_eq!(session.standing(), Standing::Behind, "two are in flight");
    // What was not sent goes to others at once, what was sent with the session's end.
    assert_eq!(session.disconnect().len(), 1);
    assert!(!session.offer(shared(QoS::AtLeastOnce), Standing::Behind).had_room(), "it has gone");
    assert_eq!(session.end().len(), 2);
    session.connect();
    for id in [1, 2] {
        session.acknowledged(id);
    }
    assert_eq!(sent(session.next(2)), Some((3, false, "its own".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn what_expired_while_it_waited_is_not_sent() {
    let session = session("s");
    let mut short = Message::clone(&message("t", "short"));
    short.expires = Some(tokio::time::Instant::now() + std::time::Duration::from_secs(1));
    let short = Delivery { message: Arc::new(short), ..delivery(QoS::AtLeastOnce, "") };
    session.enqueue(short);
    session.enqueue(delivery(QoS::AtLeastOnce, "long"));
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    session.connect();
    assert_eq!(sent(session.next(10)).map(|(_, _, payload)| payload), Some("long".to_owned()));
    session.acknowledged(1);
    assert_eq!(session.lock().bytes, 0);
}
