#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn every_topic_of_the_pilot() {
    for (text, channel, uplink) in [
        ("nb1/honghuagang/bs0001/u/t", Channel::Telemetry, true),
        ("nb1/honghuagang/bs0001/u/a", Channel::Alarm, true),
        ("nb1/honghuagang/bs0001/u/h", Channel::Replay, true),
        ("nb1/honghuagang/bs0001/u/s", Channel::Status, true),
        ("nb1/honghuagang/bs0001/u/r", Channel::CommandResult, true),
        ("nb1/honghuagang/bs0001/state", Channel::State, false),
        ("nb1/honghuagang/bs0001/d", Channel::Command, false),
    ] {
        let topic = Topic::parse(text).unwrap();
        assert_eq!((topic.region.as_str(), topic.station.as_str()), ("honghuagang", "bs0001"));
        assert_eq!((topic.channel, topic.channel.is_uplink()), (channel, uplink));
        assert_eq!(topic.to_string(), text);
    }
}

#[test]
fn foreign_topics_and_malformed_ones_are_told_apart() {
    for foreign in ["", "nb", "nb2/r/s/u/t", "/nb1/r/s/u/t", "遵义/1", "NB1/r/s/u/t"] {
        assert_eq!(Topic::parse(foreign), Err(TopicError::Foreign), "{foreign:?}");
    }
    for shape in
        ["nb1", "nb1/", "nb1/r", "nb1/r/s", "nb1/r/s/", "nb1/r/s/u", "nb1/r/s/u/t/", "nb1/r/s/u/x"]
    {
        assert_eq!(Topic::parse(shape), Err(TopicError::Shape), "{shape:?}");
    }
    for name in ["nb1//s/u/t", "nb1/r//u/t", "nb1/R/s/u/t", "nb1/r/遵/u/t", "nb1/+/s/u/t"] {
        assert!(matches!(Topic::parse(name), Err(TopicError::Name(_))), "{name:?}");
    }
}

proptest! {
    #[test]
    fn a_topic_reads_back(
        region in "[a-z0-9-]{1,16}",
        station in "[a-z0-9-]{1,32}",
        channel in prop::sample::select(Channel::ALL.to_vec()),
    ) {
        let (region, station) = (Region::new(&region).unwrap(), StationId::new(&station).unwrap());
        let topic = Topic { region, station, channel };
        prop_assert_eq!(Topic::parse(&topic.to_string()), Ok(topic));
    }

    #[test]
    fn arbitrary_topics_never_panic_and_are_never_read_as_another(text in "(nb1/)?\\PC{0,60}") {
        if let Ok(topic) = Topic::parse(&text) {
            prop_assert_eq!(topic.to_string(), text);
        }
    }
}
