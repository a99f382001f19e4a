//! Disks in trouble, real ones: a small file system that fills up, and one that the kernel makes
//! read-only under the service. A fleet publishes all the while; the service stays up, says what is
//! wrong, goes on by itself when it is over, and the audit finds everything that was acknowledged.
//!
//! Each test runs again in a mount namespace of its own, so that what it mounts ends with it. That
//! needs rights: root, or user namespaces for the one that fills up. Without them it is skipped, and
//! says so; where `CI=true` and root is there, it fails instead.

// What a run did is worth reading, above all when it failed.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use loushan_simulator::FleetOptions;
use support::fleet::Running;
use support::{DEADLINE, Service, loushan, run, wait_for, wait_for_up_to};

/// Set in the mount namespace.
const INSIDE: &str = "LOUSHAN_TEST_MOUNTS";

/// Whether we are in a mount namespace of our own. Else the test is run in one, and has passed there, or
/// cannot be.
fn inside(test: &str, needs_root: bool, tools: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = rustix::process::geteuid().is_root();
    let must = root && std::env::var("CI").is_ok_and(|ci| ci == "true");
    let has = |tool: &&&str| Command::new(tool).arg("--version").output().is_err();
    let missing: Vec<&&str> = tools.iter().filter(has).collect();
    let unshare = |more: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg("--mount").args(if root { &[][..] } else { &["--map-root-user"] }).args(more);
        command
    };
    let able = (root || !needs_root)
        && missing.is_empty()
        && unshare(&["true"]).status().is_ok_and(|status| status.success());
    if !able {
        let why = format!("{test}: no rights to mount, or tools are missing: {missing:?}");
        assert!(!must, "{why}");
        eprintln!("SKIPPED {why}");
        return false;
    }
    let this = std::env::current_exe().unwrap();
    let status = unshare(&["--"])
        .arg(this)
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its mount namespace");
    false
}

fn must(command: &mut Command) -> String {
    let (done, text) = run(command);
    assert!(done, "{command:?}: {text}");
    text
}

/// A service on a small disk, and a fleet that publishes to it.
struct Scene {
    service: Service,
    fleet: Running,
    ledger: PathBuf,
}

const FLOW: &str = "readings to flow";

impl Scene {
    /// `home` is on another disk.
    fn start(home: &Path, disk: &Path, rate: u32, more: &[(&str, &str)]) -> Self {
        let mut env = vec![
            ("LOUSHAN__LOG__SEGMENT_BYTES", "8MiB"),
            ("LOUSHAN__LOG__BUFFER_BYTES", "8MiB"),
            ("LOUSHAN__LOG__FREE_DISK_FLOOR", "24MiB"),
            ("LOUSHAN__SINK__EMBEDDED__FLUSH_AGE", "1s"),
            ("LOUSHAN__PIPELINE__SNAPSHOT_INTERVAL", "2s"),
        ];
        env.extend_from_slice(more);
        let data = disk.join("data");
        std::fs::create_dir(&data).unwrap();
        let service = Service::start_with(&data, "127.0.0.1:0", "127.0.0.1:0", &env);
        let ledger = home.join("ledger.bin");
        let fleet = Running::start(FleetOptions {
            stations: 50,
            seed: 5,
            rate: Some(rate),
            ledger: Some(ledger.clone()),
            ..FleetOptions::new(format!("mqtt://{}", service.mqtt))
        });
        let scene = Self { service, fleet, ledger };
        scene.flows();
        scene
    }

    /// Readings are accepted.
    fn flows(&self) {
        let before = self.service.figure("accepted");
        wait_for_up_to(2 * DEADLINE, FLOW, || {
            (self.service.figure("accepted") > before + 2000).then_some(())
        });
    }

    /// What readiness says of these components, red or not, once it says something.
    fn says(&self, components: &[&str]) -> String {
        wait_for("the service to say what is wrong", || {
            let body = match self.service.get("/readyz") {
                Ok(body) | Err((503, body)) => body,
                Err(other) => {
                    let told = self.service.stderr();
                    panic!("the service does not answer any more: {other:?}\n{told}")
                }
            };
            let said: serde_json::Value = serde_json::from_str(&body).unwrap();
            let reasons = said["reasons"].as_array().unwrap();
            let of = |reason: &&serde_json::Value| {
                components.contains(&reason["component"].as_str().unwrap())
            };
            reasons.iter().find(of).map(ToString::to_string)
        })
    }

    /// Ready again, and readings flow.
    fn recovers(&self) {
        wait_for_up_to(2 * DEADLINE, "readiness", || self.service.get("/readyz").ok());
        self.flows();
    }

    /// Everything acknowledged is there, once.
    fn ends(self) {
        let Self { service, fleet, ledger } = self;
        println!("{}", fleet.stop());
        service.wait_until_quiet();
        let target = format!("http://{}", service.http);
        let mut audit = loushan();
        audit.arg("audit").arg("--ledger").arg(&ledger).args(["--target", &target]);
        println!("{}", must(&mut audit));
        assert!(service.terminate().success());
    }
}

#[test]
fn a_disk_that_fills_up_is_said_and_survived_and_everything_acknowledged_is_there() {
    let name = "a_disk_that_fills_up_is_said_and_survived_and_everything_acknowledged_is_there";
    if !inside(name, false, &["mount"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let size = "size=160m";
    must(Command::new("mount").args(["-t", "tmpfs", "-o", size, "none"]).arg(&disk));
    let scene = Scene::start(home.path(), &disk, 1000, &[]);
    let ballast = disk.join("ballast");
    // To the floor: appends are refused in time, and store and snapshot still have room.
    fill(&ballast, &disk, 20 << 20);
    let said = scene.says(&["disk"]);
    assert!(said.contains("log.free_disk_floor = 24MiB"), "{said}");
    let accepted = scene.service.figure("accepted");
    std::thread::sleep(Duration::from_millis(500));
    assert!(scene.service.figure("accepted") <= accepted + 1000, "nothing more is taken");
    std::fs::remove_file(&ballast).unwrap();
    scene.recovers();
    // To the last byte: whatever is written next fails.
    fill(&ballast, &disk, 0);
    scene.says(&["disk", "log"]);
    std::fs::remove_file(&ballast).unwrap();
    scene.recovers();
    scene.ends();
}

#[test]
fn a_log_that_meets_a_full_disk_without_a_floor_goes_on_when_there_is_room() {
    let name = "a_log_that_meets_a_full_disk_without_a_floor_goes_on_when_there_is_room";
    if !inside(name, false, &["mount"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    must(Command::new("mount").args(["-t", "tmpfs", "-o", "size=160m", "none"]).arg(&disk));
    let more = [("LOUSHAN__LOG__FREE_DISK_FLOOR", "0B")];
    // Fast enough for the log to come to the end of its segment soon.
    let scene = Scene::start(home.path(), &disk, 6000, &more);
    let ballast = disk.join("ballast");
    fill(&ballast, &disk, 0);
    // The store's flush is the first to find no room, then the log's next segment.
    let said = scene.says(&["embedded", "pipeline", "log"]);
    println!("{said}");
    let said = scene.says(&["log"]);
    assert!(said.contains("a write or sync failed"), "{said}");
    std::fs::remove_file(&ballast).unwrap();
    scene.recovers();
    scene.ends();
}

/// Takes all the room but so much.
fn fill(ballast: &Path, disk: &Path, leave: u64) {
    use rustix::fs::{FallocateFlags, fallocate, statvfs};
    let file = File::create(ballast).unwrap();
    let mut taken = 0;
    loop {
        let stat = statvfs(disk).unwrap();
        let free = (stat.f_bavail * stat.f_frsize).saturating_sub(leave);
        // Whatever the service frees or takes meanwhile.
        if free == 0 || fallocate(&file, FallocateFlags::empty(), taken, free).is_err() {
            let stat = statvfs(disk).unwrap();
            if (stat.f_bavail * stat.f_frsize).saturating_sub(leave) < 64 << 10 {
                return;
            }
            continue;
        }
        taken += free;
    }
}

#[test]
fn a_file_system_that_turns_read_only_is_said_and_survived_and_used_again_when_it_is_mended() {
    let name =
        "a_file_system_that_turns_read_only_is_said_and_survived_and_used_again_when_it_is_mended";
    if !inside(name, true, &["mount", "losetup", "blockdev", "mkfs.ext4", "e2fsck"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (disk, image) = (home.path().join("disk"), home.path().join("image"));
    std::fs::create_dir(&disk).unwrap();
    File::create(&image).unwrap().set_len(256 << 20).unwrap();
    must(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
    let device = Loop::of(&image);
    let options = ["-o", "errors=remount-ro"];
    must(Command::new("mount").args(options).arg(&device.0).arg(&disk));
    let scene = Scene::start(home.path(), &disk, 1000, &[]);

    // The kernel finds an error: from here on every write fails, also to files that are open.
    let device_name = Path::new(&device.0).file_name().unwrap().to_owned();
    let trigger = Path::new("/sys/fs/ext4").join(device_name).join("trigger_fs_error");
    std::fs::write(&trigger, "1").unwrap();
    let said = scene.says(&["log"]);
    assert!(said.contains("a write or sync failed"), "{said}");
    std::thread::sleep(Duration::from_secs(1));
    assert!(scene.service.get("/healthz").is_ok());

    // The operator mends it: checked, and mounted where it was.
    must(Command::new("umount").arg("-l").arg(&disk));
    // Another machine would see what was written and no more; here the first device still has buffers,
    // which must not come after what is written through the second.
    must(Command::new("blockdev").arg("--flushbufs").arg(&device.0));
    must(Command::new("blockdev").arg("--setro").arg(&device.0));
    let mended = Loop::of(&image);
    let (_found_something, told) = run(Command::new("e2fsck").arg("-fy").arg(&mended.0));
    println!("{told}");
    must(Command::new("mount").arg(&mended.0).arg(&disk));
    scene.recovers();
    scene.ends();
    must(Command::new("umount").arg(&disk));
}

/// A loop device, let go when it is dropped.
struct Loop(String);

impl Loop {
    fn of(image: &Path) -> Self {
        let device = must(Command::new("losetup").args(["--find", "--show"]).arg(image));
        let device = Self(device.trim().to_owned());
        // Whoever had it before may have left it read-only.
        must(Command::new("blockdev").arg("--setrw").arg(&device.0));
        device
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        drop(Command::new("blockdev").arg("--setrw").arg(&self.0).status());
        // One that is still mounted goes with its namespace.
        drop(Command::new("losetup").arg("--detach").arg(&self.0).status());
    }
}
