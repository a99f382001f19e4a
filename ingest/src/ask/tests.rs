//! Whatever is asked, it is answered or refused by name.

#![allow(clippy::unwrap_used)]

use loushan_schemas::kind::Kind;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{AskError, Asked, Format, Given, Place, What, answer};
use crate::io::sim::SimIo;
use crate::sink::embedded::Bounds;
use crate::sink::embedded::tests::support::{DAY, imei, row, store_of};

const QUESTIONS: [What; 6] =
    [What::Latest, What::History, What::Aggregate, What::Seen, What::Gaps, What::Export];

fn any_parameter() -> impl Strategy<Value = (String, String)> {
    let names = [
        "device",
        "station",
        "kind",
        "from",
        "to",
        "min_quality",
        "order",
        "limit",
        "page",
        "fields",
        "field",
        "fn",
        "every",
        "zone",
        "by",
        "per",
        "longer_than",
        "factor",
        "format",
        "colour",
    ];
    let device = imei(1).to_string();
    let values = [
        device.as_str(),
        "bs0001",
        "water",
        "smoke",
        "station_status",
        "0",
        "1",
        "2",
        "-1h",
        "now",
        "2026-11-24T00:00:00Z",
        "newest",
        "100",
        "total_l,flow_l_h",
        "total_l",
        "battery_pct",
        "state",
        "mean,p95",
        "increase,rate",
        "count,last",
        "1h",
        "1d",
        "+08:00",
        "station",
        "none",
        "1.5",
        "csv",
        "json",
        "arrow",
        "parquet",
        "ndjson",
        "",
    ]
    .map(str::to_owned);
    let value = prop_oneof![12 => prop::sample::select(values.to_vec()), 1 => any::<String>()];
    (prop::sample::select(names.to_vec()).prop_map(str::to_owned), value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_question_is_answered_or_refused_by_name(
        what in prop::sample::select(QUESTIONS.to_vec()),
        parameters in vec(any_parameter(), 0..6),
    ) {
        let given = Given(parameters);
        let asked = match Asked::parse(what, &given, None, DAY) {
            Ok(asked) => asked,
            Err(bad) => {
                prop_assert!(!bad.parameter.is_empty() && !bad.accepted.is_empty(), "{bad}");
                let known = |(name, _): &(String, String)| *name == bad.parameter;
                prop_assert!(bad.value.is_none() || given.0.iter().any(known), "{bad}");
                return Ok(());
            }
        };
        let rows = |seq| vec![row(Kind::Water, 1, seq, DAY), row(Kind::Smoke, 2, seq, DAY)];
        let store = store_of(&SimIo::new(), vec![rows(1), rows(2)]);
        let place = Place { store, registry: None, now_ms: DAY };
        let mut out = Vec::new();
        match answer(&place, &asked, &Bounds::default(), &mut out) {
            Ok(()) if asked.format == Format::Json => {
                let whole: Result<serde_json::Value, _> = serde_json::from_slice(&out);
                prop_assert!(whole.is_ok(), "{}", String::from_utf8_lossy(&out));
            }
            Ok(()) if asked.format == Format::Ndjson => {
                for line in String::from_utf8(out).unwrap().lines() {
                    let line: Result<serde_json::Value, _> = serde_json::from_str(line);
                    prop_assert!(line.is_ok());
                }
            }
            Ok(()) | Err(AskError::Nothing(_) | AskError::Parameter(_)) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
