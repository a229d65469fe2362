//! `baton bench` measures: each scenario brings figures, for Baton and for what it is held against. What the figures are
//! is nobody's business here.

use std::process::Command;

use serde_json::Value;

/// A short run; its report.
fn bench(arguments: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(["--json", "bench", "--quick", "--dir"])
        .arg(dir.path())
        .args(arguments)
        .env("HOME", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{arguments:?}: {said}");
    let report: Value = serde_json::from_slice(&ran.stdout).expect("a report");
    assert_eq!(report["failures"], Value::Array(Vec::new()), "{said}");
    assert_eq!(report["is_quick"], true);
    // Nothing is left behind.
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "{:?}", dir.path());
    report
}

/// Every point has figures of these subjects, and each is a number above zero.
fn measured(report: &Value, points: usize, subjects: &[&str]) {
    let found = report["points"].as_array().expect("points");
    assert_eq!(found.len(), points, "{report:#}");
    for point in found {
        let series = point["series"].as_array().expect("series");
        for subject in subjects {
            let mut its = series.iter().filter(|it| it["subject"] == *subject);
            let first = its
                .next()
                .unwrap_or_else(|| panic!("{subject} in {point:#}"));
            let value = first["values"][0].as_f64().unwrap_or_default();
            assert!(value > 0.0, "{point:#}");
        }
    }
}

#[test]
fn events_fan_out_over_every_transport() {
    let report = bench(&["fanout", "--only", "10 readers, saturated"]);
    measured(&report, 4, &["baton", "bare"]);
    let report = bench(&["fanout", "--only", "windows of 64 KiB"]);
    measured(&report, 1, &["baton", "bare"]);
}

#[test]
fn what_tls_costs_and_what_must_not_grow() {
    let report = bench(&["tls"]);
    measured(&report, 3, &["baton", "baton, TLS", "bare", "bare, TLS"]);
    let report = bench(&["flat", "--only", "ingest"]);
    measured(&report, 2, &[]);
    let report = bench(&["flat", "--only", "readers"]);
    measured(&report, 1, &["baton", "bare"]);
}

#[test]
fn events_come_at_an_even_rate_and_arrive() {
    let report = bench(&["fanout", "--only", "SSE, 10 readers, 200 events"]);
    measured(&report, 1, &["baton", "bare"]);
    let report = bench(&["latency", "--only", "1000 events"]);
    measured(&report, 1, &["baton", "bare hop + fdatasync"]);
    let report = bench(&["latency", "--only", "live text"]);
    measured(&report, 1, &["baton", "bare"]);
    let report = bench(&["latency", "--only", "prompt"]);
    measured(&report, 1, &["baton", "bare hop + fdatasync"]);
}

#[test]
fn the_whole_path_and_durable_ingest() {
    let report = bench(&["relay", "--only", "10 readers"]);
    measured(&report, 1, &["baton", "bare"]);
    let report = bench(&[
        "append",
        "--only",
        "64 session(s), batches of 64, sync fsync",
    ]);
    measured(&report, 1, &["baton", "raw append + fdatasync"]);
}

#[test]
fn logs_are_replayed_and_servers_started_with_them() {
    let report = bench(&["replay", "--only", "10000 events"]);
    // Cold is measured where the system lets its caches go: for root.
    let is_root = std::fs::OpenOptions::new()
        .write(true)
        .open("/proc/sys/vm/drop_caches")
        .is_ok();
    measured(&report, 8, if is_root { &["baton"] } else { &[] });
    let report = bench(&["startup", "--only", "1000 stored"]);
    measured(
        &report,
        1,
        &[
            "baton, stopped, warm",
            "baton, from the tail",
            "bare, one message",
        ],
    );
}

#[test]
fn what_is_idle_what_comes_back_and_what_is_listed() {
    let report = bench(&["idle", "--only", "over gRPC"]);
    measured(&report, 2, &["baton", "bare"]);
    let report = bench(&["storm"]);
    measured(&report, 1, &["baton"]);
    let report = bench(&["list"]);
    measured(&report, 2, &[]);
}

#[test]
fn slow_readers_and_overload() {
    let report = bench(&["slow-readers"]);
    measured(&report, 1, &["with a stalled one", "without"]);
    let report = bench(&["overload"]);
    measured(&report, 1, &["at twice the capacity"]);
}
