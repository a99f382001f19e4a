use super::*;
use crate::message::tests::message;

fn limits(session: usize, total: usize) -> Arc<QueueLimits> {
    Arc::new(QueueLimits { session, total: Budget::new(total) })
}

pub(crate) fn session(client_id: &str) -> Arc<Session> {
    Arc::new(Session::new(client_id.into(), limits(10_000, 100_000)))
}

fn delivery(qos: QoS, payload: &str) -> Delivery {
    Delivery { message: message("t", payload), qos, retain: false, ids: Vec::new(), share: None }
}

fn sent(next: Option<Next>) -> Option<(u16, bool, String)> {
    match next? {
        Next::Publish { id, dup, delivery } => {
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
        assert!(session.enqueue(delivery(QoS::ExactlyOnce, payload)));
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
    assert!(a.enqueue(delivery(QoS::AtMostOnce, "xx")));
    assert!(a.enqueue(delivery(QoS::AtLeastOnce, "xx")));
    assert!(!a.enqueue(delivery(QoS::AtMostOnce, "xx")) && !a.lock().overflowed);
    assert!(!a.enqueue(delivery(QoS::AtLeastOnce, "xx")) && a.lock().overflowed);
    // The bound on all sessions together counts as well.
    assert!(b.enqueue(delivery(QoS::AtLeastOnce, "xx")));
    assert!(!b.enqueue(delivery(QoS::AtLeastOnce, "xx")) && !b.lock().overflowed);
    drop(a);
    assert!(b.enqueue(delivery(QoS::AtLeastOnce, "xx")));
    drop(b);
    assert_eq!(limits.total.used(), 0);
}

#[test]
fn what_others_could_have_as_well_is_taken_only_by_who_is_still_where_it_was_thought_to_be() {
    let session = session("s");
    let shared = |qos| Delivery { share: Some("$share/g/t".into()), ..delivery(qos, "x") };
    assert_eq!(session.standing(), Standing::Away);
    assert!(!session.offer(shared(QoS::AtMostOnce), Standing::Away), "nothing is kept at QoS 0");
    session.connect();
    session.lock().receive_maximum = 2;
    assert_eq!(session.standing(), Standing::Free);
    assert!(!session.offer(shared(QoS::AtLeastOnce), Standing::Away), "it has come back");
    for _ in 0..3 {
        assert!(session.offer(shared(QoS::AtLeastOnce), Standing::Free));
    }
    assert!(session.enqueue(delivery(QoS::AtLeastOnce, "its own")));
    assert!(sent(session.next(2)).is_some() && sent(session.next(2)).is_some());
    assert_eq!(session.standing(), Standing::Behind, "two are in flight");
    // What was not sent goes to others at once, what was sent with the session's end.
    assert_eq!(session.disconnect().len(), 1);
    assert!(!session.offer(shared(QoS::AtLeastOnce), Standing::Behind), "it has gone");
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
