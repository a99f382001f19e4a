//! Sinks that write to servers: independent of each other, and told what to do while they run.

use super::server::Server;
use super::*;
use crate::io::sim::{Failure, Fault, Op};
use crate::sink::{RewindTo, SinkFigures, SinkOrder, SinkOrderError, SinkState};

/// A configuration with these sinks.
pub(super) fn with_sinks(sinks: &[(&str, &str)], more: &[(&str, &str)]) -> Config {
    let mut keys: Vec<(String, String)> = Vec::new();
    for (name, url) in sinks {
        for (key, value) in [
            ("URL", *url),
            ("ORG", "city"),
            ("BUCKET", "loushan"),
            ("TOKEN", "secret"),
            ("BATCH_AGE", "10ms"),
            ("MAX_BACKOFF", "100ms"),
            ("FLUSH_WITHIN", "200ms"),
        ] {
            let name = name.to_uppercase();
            keys.push((format!("LOUSHAN__SINK__{name}__{key}"), value.to_owned()));
        }
    }
    let keys = keys.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    config_with(&keys.chain(more.iter().copied()).collect::<Vec<_>>())
}

pub(super) fn figures(service: &Service, name: &str) -> SinkFigures {
    let sinks = service.view.conservation().sinks;
    sinks.into_iter().find(|sink| &*sink.name == name).unwrap()
}

pub(super) async fn order(
    service: &Service,
    name: &'static str,
    order: SinkOrder,
) -> Result<(), SinkOrderError> {
    let view = Arc::clone(&service.view);
    tokio::task::spawn_blocking(move || view.order_sink(name, order)).await.unwrap()
}

/// Until the sink has stored everything that is durable.
async fn caught_up(service: &Service, name: &str) {
    wait_for(|| figures(service, name).cursor >= service.view.conservation().durable_lsn).await;
}

fn balanced(service: &Service) {
    for sink in service.view.conservation().sinks {
        assert_eq!(sink.residue(), 0, "{sink:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_holds_up_no_other_sink() {
    let (here, away) = (Server::start().await, Server::start().await);
    away.answers(503);
    let io = SimIo::new();
    let config = with_sinks(&[("influx", &here.url), ("lake", &away.url)], &[]);
    let service = try_start(&io, config).await.unwrap();
    for seq in 1..=5 {
        assert!(matches!(publish_as(&service, seq).await, AckOutcome::Durable(_)));
    }
    caught_up(&service, "influx").await;
    assert_eq!(here.points(), 10);
    assert_eq!(rows(&service).await, 10);
    let lake = figures(&service, "lake");
    assert_eq!((lake.cursor, lake.stored, lake.lag.frames), (0, 0, 5));
    assert!(lake.lag.bytes > 0, "{lake:?}");
    wait_for(|| figures(&service, "lake").trouble.is_some()).await;
    let said = condition(&service, Component::Sinks).unwrap();
    assert!(said.starts_with("lake: ") && service.view.readiness().is_ready(), "{said}");
    away.answers(0);
    caught_up(&service, "lake").await;
    assert_eq!(away.points(), 10);
    assert_eq!(figures(&service, "lake").lag.frames, 0);
    balanced(&service);
    assert!(stop(service).await.is_clean());
    // Each has its folder.
    for name in ["influx", "lake"] {
        assert!(io.exists(&Path::new("/data/sinks").join(name).join("cursor")).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sink_stands_still_over_a_restart_and_goes_on_where_it_was() {
    let server = Server::start().await;
    let io = SimIo::new();
    let config = || with_sinks(&[("influx", &server.url)], &[]);
    let service = try_start(&io, config()).await.unwrap();
    publish_as(&service, 1).await;
    caught_up(&service, "influx").await;
    order(&service, "influx", SinkOrder::Pause).await.unwrap();
    publish_as(&service, 2).await;
    assert_eq!(rows(&service).await, 4);
    let influx = figures(&service, "influx");
    assert_eq!((influx.state, influx.stored, influx.pending), (SinkState::Paused, 2, 0));
    assert!(condition(&service, Component::Sinks).unwrap().contains("influx is paused"));
    balanced(&service);
    assert!(stop(service).await.is_clean());

    let service = try_start(&io, config()).await.unwrap();
    publish_as(&service, 3).await;
    let influx = figures(&service, "influx");
    assert_eq!((influx.state, influx.cursor, influx.lag.frames), (SinkState::Paused, 1, 2));
    assert_eq!(server.points(), 2);
    order(&service, "influx", SinkOrder::Resume).await.unwrap();
    caught_up(&service, "influx").await;
    assert_eq!(server.points(), 6);
    assert_eq!(condition(&service, Component::Sinks), None);
    balanced(&service);
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_paused_in_an_outage_gives_back_what_it_held_and_the_books_agree() {
    let server = Server::start().await;
    server.answers(503);
    let io = SimIo::new();
    let service = try_start(&io, with_sinks(&[("influx", &server.url)], &[])).await.unwrap();
    publish_as(&service, 1).await;
    wait_for(|| figures(&service, "influx").pending == 2).await;
    order(&service, "influx", SinkOrder::Pause).await.unwrap();
    let influx = figures(&service, "influx");
    assert_eq!((influx.returned, influx.pending, influx.trouble), (2, 0, None));
    balanced(&service);
    server.answers(0);
    order(&service, "influx", SinkOrder::Resume).await.unwrap();
    caught_up(&service, "influx").await;
    let influx = figures(&service, "influx");
    assert_eq!((influx.fed, influx.stored, influx.returned), (4, 2, 2));
    balanced(&service);
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewound_sink_stores_again_what_the_log_has_and_the_books_say_rewound() {
    let server = Server::start().await;
    let io = SimIo::new();
    let config = || with_sinks(&[("influx", &server.url)], &[]);
    let service = try_start(&io, config()).await.unwrap();
    for seq in 1..=4 {
        publish_as(&service, seq).await;
    }
    caught_up(&service, "influx").await;
    assert_eq!(server.lines().len(), 8);
    order(&service, "influx", SinkOrder::Rewind(RewindTo::Lsn(1))).await.unwrap();
    wait_for(|| figures(&service, "influx").stored == 14).await;
    caught_up(&service, "influx").await;
    let influx = figures(&service, "influx");
    assert_eq!((influx.fed, influx.rewound, influx.stored), (14, 6, 14));
    // The same points.
    assert_eq!((server.lines().len(), server.points()), (14, 8));

    // By time: the manual clock has stood still, so everything is younger than it.
    let time = |ms: u64| {
        let time = DeviceTime::from_ms(i64::try_from(ms).unwrap()).unwrap();
        SinkOrder::Rewind(RewindTo::Time(time))
    };
    order(&service, "influx", time(NOW_MS)).await.unwrap();
    wait_for(|| figures(&service, "influx").stored == 22).await;
    order(&service, "influx", time(NOW_MS + 1)).await.unwrap();
    caught_up(&service, "influx").await;
    assert_eq!(figures(&service, "influx").stored, 22, "nothing was received later");
    let refused = order(&service, "influx", SinkOrder::Rewind(RewindTo::Lsn(99))).await;
    assert!(matches!(refused, Err(SinkOrderError::NotNow(_))), "{refused:?}");
    balanced(&service);
    assert!(stop(service).await.is_clean());

    // What the log has no more is named.
    let service = loop {
        let service = try_start(&io, config()).await.unwrap();
        if service.view.pipeline.log().stats().begins_after.0 > 0 {
            break service;
        }
        assert!(stop(service).await.is_clean());
    };
    let gone = order(&service, "influx", SinkOrder::Rewind(RewindTo::Lsn(1))).await.unwrap_err();
    assert!(matches!(gone, SinkOrderError::Gone { begins_after: 4, .. }), "{gone:?}");
    assert!(gone.to_string().contains("loushan replay --sink influx"), "{gone}");
    assert!(matches!(
        order(&service, "influx", time(NOW_MS - 1)).await,
        Err(SinkOrderError::Gone { .. })
    ));
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_that_cannot_be_made_durable_is_none() {
    let server = Server::start().await;
    let io = SimIo::new();
    let service = try_start(&io, with_sinks(&[("influx", &server.url)], &[])).await.unwrap();
    publish_as(&service, 1).await;
    caught_up(&service, "influx").await;
    io.inject(Fault {
        op: Op::Sync,
        path: "influx/cursor".to_owned(),
        after: 0,
        times: 1,
        failure: Failure::Errno(5),
    });
    let refused = order(&service, "influx", SinkOrder::Rewind(RewindTo::Lsn(0))).await;
    assert!(matches!(refused, Err(SinkOrderError::Disk(_))), "{refused:?}");
    assert!(!io.clear_faults());
    publish_as(&service, 2).await;
    caught_up(&service, "influx").await;
    assert_eq!(figures(&service, "influx").rewound, 0);
    assert_eq!(server.lines().len(), 4);
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_sink_holds_the_log_no_more_and_begins_anew_when_it_is_resumed() {
    let server = Server::start().await;
    server.answers(503);
    let io = SimIo::new();
    let config = || with_sinks(&[("influx", &server.url)], &[]);
    let service = try_start(&io, config()).await.unwrap();
    publish_as(&service, 1).await;
    order(&service, "influx", SinkOrder::Remove).await.unwrap();
    assert_eq!(figures(&service, "influx").state, SinkState::Removed);
    assert!(condition(&service, Component::Sinks).unwrap().contains("influx is removed"));
    assert!(stop(service).await.is_clean());
    // Nobody needs the log now, and it stays removed.
    let service = loop {
        let service = try_start(&io, config()).await.unwrap();
        assert_eq!(figures(&service, "influx").state, SinkState::Removed);
        if service.view.pipeline.log().stats().begins_after.0 == 1 {
            break service;
        }
        assert!(stop(service).await.is_clean());
    };
    publish_as(&service, 2).await;
    server.answers(0);
    let refused = order(&service, "influx", SinkOrder::Pause).await;
    assert!(matches!(refused, Err(SinkOrderError::NotNow(_))), "{refused:?}");
    order(&service, "influx", SinkOrder::Resume).await.unwrap();
    caught_up(&service, "influx").await;
    assert_eq!(server.points(), 2, "the second publish only");
    assert!(condition(&service, Component::Sinks).unwrap().contains("begins anew"));
    balanced(&service);
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_whose_own_files_fail_is_begun_again_and_nobody_else_notices() {
    let server = Server::start().await;
    let io = SimIo::new();
    let service = try_start(&io, with_sinks(&[("influx", &server.url)], &[])).await.unwrap();
    publish_as(&service, 1).await;
    caught_up(&service, "influx").await;
    order(&service, "influx", SinkOrder::Pause).await.unwrap();
    io.inject(Fault {
        op: Op::Read,
        path: "influx/cursor".to_owned(),
        after: 0,
        times: 1,
        failure: Failure::Errno(5),
    });
    order(&service, "influx", SinkOrder::Resume).await.unwrap();
    wait_for(|| figures(&service, "influx").state == SinkState::Failed).await;
    let said = condition(&service, Component::Sinks).unwrap();
    assert!(said.contains("begun again") && service.view.readiness().is_ready(), "{said}");
    assert!(matches!(publish_as(&service, 2).await, AckOutcome::Durable(_)));
    assert_eq!(rows(&service).await, 4);
    caught_up(&service, "influx").await;
    assert_eq!(figures(&service, "influx").state, SinkState::Running);
    assert_eq!(server.points(), 4);
    assert_eq!(condition(&service, Component::Sinks), None);
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sinks_of_the_promise_can_be_paused_and_nothing_else() {
    let io = SimIo::new();
    let service = try_start(&io, config()).await.unwrap();
    for name in ["embedded", "dead_letter"] {
        order(&service, name, SinkOrder::Pause).await.unwrap();
        let refused = order(&service, name, SinkOrder::Remove).await;
        assert!(matches!(refused, Err(SinkOrderError::Never { .. })), "{refused:?}");
        let refused = order(&service, name, SinkOrder::Rewind(RewindTo::Lsn(0))).await;
        assert!(matches!(refused, Err(SinkOrderError::Never { .. })), "{refused:?}");
    }
    let refused = order(&service, "snapshot", SinkOrder::Pause).await;
    assert!(matches!(refused, Err(SinkOrderError::Never { .. })), "{refused:?}");
    let refused = order(&service, "lake", SinkOrder::Pause).await.unwrap_err();
    assert!(matches!(&refused, SinkOrderError::Unknown { known, .. } if known.len() == 4));
    // Acknowledged all the same: the log has it.
    assert!(matches!(publish_as(&service, 1).await, AckOutcome::Durable(_)));
    assert!(stop(service).await.is_clean());
    let service = try_start(&io, config()).await.unwrap();
    assert_eq!(figures(&service, "embedded").state, SinkState::Paused);
    assert_eq!(figures(&service, "embedded").fed, 0);
    assert!(condition(&service, Component::Embedded).unwrap().contains("embedded is paused"));
    for name in ["embedded", "dead_letter"] {
        order(&service, name, SinkOrder::Resume).await.unwrap();
    }
    assert_eq!(rows(&service).await, 2);
    balanced(&service);
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_earlier_builds_is_found() {
    let server = Server::start().await;
    let io = SimIo::new();
    io.create_dir_all(Path::new("/data/influx")).unwrap();
    let service = try_start(&io, with_sinks(&[("influx", &server.url)], &[])).await.unwrap();
    publish_as(&service, 1).await;
    caught_up(&service, "influx").await;
    assert!(io.exists(Path::new("/data/influx/cursor")).unwrap());
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_for_a_while_ends_nobody() {
    let server = Server::start().await;
    server.answers(503);
    let io = SimIo::new();
    // No tail worth the name, so that whoever is behind reads the log.
    let more = [("LOUSHAN__PIPELINE__TAIL_BYTES", "1MiB")];
    let config = with_sinks(&[("influx", &server.url)], &more);
    let service = try_start(&io, config).await.unwrap();
    order(&service, "influx", SinkOrder::Pause).await.unwrap();
    for seq in 1..=1500 {
        publish_as(&service, seq).await;
    }
    server.answers(0);
    io.inject(Fault {
        op: Op::Read,
        path: "/data/log".to_owned(),
        after: 0,
        times: u64::MAX,
        failure: Failure::Errno(5),
    });
    order(&service, "influx", SinkOrder::Resume).await.unwrap();
    wait_for(|| figures(&service, "influx").trouble.is_some()).await;
    let said = condition(&service, Component::Sinks).unwrap();
    assert!(said.contains("the log could not be read"), "{said}");
    io.clear_faults();
    caught_up(&service, "influx").await;
    assert_eq!(server.points(), 3000);
    assert_eq!(condition(&service, Component::Sinks), None);
    balanced(&service);
    assert!(stop(service).await.is_clean());
}
