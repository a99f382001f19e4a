//! Whatever is wrong and whatever the server says of it, exactly the bad readings are refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// How a server misleads us, or does not.
#[derive(Debug, Clone)]
struct Words {
    /// Bad lines it names of those there are.
    most: usize,
    /// What it adds to the number.
    shift: i64,
    /// Lines it names beside them.
    beside: Vec<u64>,
    /// Whether it stores the good lines of a request that it refuses.
    partial: bool,
    in_words: bool,
    /// Whether it repeats the lines it means.
    repeats: bool,
}

fn words() -> impl Strategy<Value = Words> {
    let beside = prop::collection::vec(0..80_u64, 0..3);
    let flags = any::<(bool, bool, bool)>();
    (0..40_usize, -2..3_i64, beside, flags).prop_map(
        |(most, shift, beside, (partial, in_words, repeats))| Words {
            most,
            shift,
            beside,
            partial,
            in_words,
            repeats,
        },
    )
}

impl Words {
    fn say(&self, bad: &[(usize, &str)]) -> String {
        let named = bad.iter().take(self.most);
        let named = named.map(|(n, line)| (*n as i64 + 1 + self.shift, *line));
        let beside = self.beside.iter().map(|n| (i64::try_from(*n).unwrap(), ""));
        let named = named.chain(beside);
        if self.in_words {
            let lines: Vec<_> = named.map(|(n, _)| format!("error in line {n}: bad")).collect();
            return json!({ "code": "invalid", "message": lines.join("\n") }).to_string();
        }
        let line = |line| if self.repeats { line } else { "" };
        let data: Vec<_> = named
            .map(|(n, said)| json!({ "line_number": n, "original_line": line(said) }))
            .collect();
        json!({ "error": "partial write", "data": data }).to_string()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn exactly_the_bad_readings_are_refused_and_the_others_stored(
        count in 1..70_u32,
        bad in prop::collection::btree_set(0..70_u32, 0..30),
        words in words(),
    ) {
        let bad: BTreeSet<u32> = bad.into_iter().filter(|n| *n < count).collect();
        // One that refuses all of them is not believed.
        prop_assume!(bad.len() < count as usize);
        let all: Vec<Row> = (0..count).map(|n| row(Kind::Smoke, n)).collect();
        let expected = lines_of(
            &all.iter().filter(|r| !bad.contains(&(r.reading.seq as u32))).cloned().collect::<Vec<_>>(),
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (figures, stored, kept) = runtime.block_on(async {
            let stored = Arc::new(Mutex::new(BTreeSet::new()));
            let (at_server, is_bad) = (Arc::clone(&stored), bad.clone());
            let server = Server::start(move |request| {
                let mut wrong = Vec::new();
                let mut good = Vec::new();
                for (number, line) in request.body.lines().enumerate() {
                    if is_bad.iter().any(|n| line.contains(&format!(",seq={n}i,"))) {
                        wrong.push((number, line));
                    } else {
                        good.push(line.to_owned());
                    }
                }
                if wrong.is_empty() || words.partial {
                    at_server.lock().extend(good);
                }
                if wrong.is_empty() {
                    return STORED;
                }
                Reply::Full(400, String::new(), words.say(&wrong))
            })
            .await;
            let dir = tempfile::tempdir().unwrap();
            let log = TestLog::default();
            log.push(frame(1, all.clone()));
            log.close();
            let figures = start(dir.path(), config(&server), &log).end().await;
            (figures, stored.lock().clone(), letters(dir.path()))
        });
        prop_assert_eq!((figures.cursor, figures.residue()), (1, 0));
        prop_assert_eq!(stored, expected);
        let kept: Vec<u32> = kept.iter().map(|letter| letter.reading.unwrap()).collect();
        prop_assert_eq!(kept, bad.into_iter().collect::<Vec<_>>());
    }
}
