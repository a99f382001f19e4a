//! `retention`: what a running service keeps, and what would go now.

use std::process::ExitCode;

use serde_json::Value;

use super::Failure;
use super::http::ServiceArgs;
use super::table;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    service: ServiceArgs,
    /// Have it go now, instead of at the service's next look. Needs an admin's token.
    #[arg(long)]
    run: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let client = args.service.client()?;
    let (answer, key) = if args.run {
        (client.post("/api/v1/retention/run", &[], None)?.json()?, "removed")
    } else {
        (client.get("/api/v1/retention", &[])?.json()?, "removes")
    };
    if let Some(keeps) = answer.get("keeps") {
        print!("{}", table::of_csv(kept(keeps).as_bytes())?);
        println!();
    }
    print!("{}", table::of_csv(stored(&answer["stored"]).as_bytes())?);
    println!();
    let went = answer[key].as_array().map_or(&[][..], Vec::as_slice);
    if went.is_empty() {
        println!("Nothing {}.", if args.run { "had to go" } else { "would go now" });
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", table::of_csv(gone(went).as_bytes())?);
    let total = |of: &str| went.iter().filter_map(|day| day[of].as_u64()).sum::<u64>();
    let verb = if args.run { "went" } else { "would go now; --run has it go" };
    println!(
        "{} days, {} readings, {} bytes {verb}",
        went.len(),
        total("readings"),
        total("bytes")
    );
    Ok(ExitCode::SUCCESS)
}

fn kept(keeps: &Value) -> String {
    let mut csv = String::from("keeps,age,bytes\n");
    for (kind, limits) in keeps["kinds"].as_object().into_iter().flatten() {
        let age = limits["age"].as_str().unwrap_or("any");
        csv.push_str(&format!("{kind},{age},{}\n", bound(&limits["bytes"])));
    }
    csv.push_str(&format!("all,,{}\n", bound(&keeps["bytes"])));
    csv
}

fn bound(bytes: &Value) -> String {
    bytes.as_u64().map_or_else(|| "any".to_owned(), |bytes| bytes.to_string())
}

fn stored(kinds: &Value) -> String {
    let mut csv = String::from("stored,oldest,newest,days,files,readings,bytes\n");
    for (kind, of) in kinds.as_object().into_iter().flatten() {
        csv.push_str(kind);
        for key in ["oldest", "newest"] {
            csv.push_str(&format!(",{}", of[key].as_str().unwrap_or("")));
        }
        for key in ["days", "files", "readings", "bytes"] {
            csv.push_str(&format!(",{}", of[key]));
        }
        csv.push('\n');
    }
    csv
}

fn gone(days: &[Value]) -> String {
    let mut csv = String::from("date,kind,why,readings,bytes,files\n");
    for day in days {
        let text = |key: &str| day[key].as_str().unwrap_or("").to_owned();
        let (date, kind, why) = (text("date"), text("kind"), text("why"));
        let (readings, bytes, files) = (&day["readings"], &day["bytes"], &day["files"]);
        csv.push_str(&format!("{date},{kind},{why},{readings},{bytes},{files}\n"));
    }
    csv
}
