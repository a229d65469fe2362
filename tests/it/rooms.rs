//! The rooms of `src/` and what each may see. Imports point down only; `ARCHITECTURE.md` says why.

mod source;

use std::fs;
use std::path::{Path, PathBuf};

/// A room of `src/`.
struct Room {
    name: &'static str,
    /// The rooms that it may name.
    sees: &'static [&'static str],
    /// Crates (every crate whose name starts so) and modules that it must not name.
    never: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room {
        name: "base",
        sees: &[],
        never: &["prost", "tonic"],
    },
    Room {
        name: "domain",
        sees: &["base"],
        never: &[
            "tokio",
            "prost",
            "tonic",
            "std::fs",
            "std::net",
            "std::process",
        ],
    },
    Room {
        name: "wire",
        sees: &["base", "domain"],
        never: &[],
    },
    Room {
        name: "driver",
        sees: &["base", "domain", "wire"],
        never: &["tokio", "tonic", "std::fs", "std::net", "std::process"],
    },
    Room {
        name: "store",
        sees: &["base", "domain", "wire"],
        never: &[],
    },
    Room {
        name: "relay",
        sees: &["base", "domain", "wire", "store"],
        never: &["prost", "tonic"],
    },
    Room {
        name: "app",
        sees: &["base", "domain", "wire", "store", "relay"],
        never: &["prost", "tonic"],
    },
    Room {
        name: "rpc",
        sees: &["base", "domain", "wire", "store", "relay", "app"],
        never: &[],
    },
    Room {
        name: "gateway",
        sees: &["base", "domain", "wire", "driver", "store", "relay", "app"],
        never: &[],
    },
    Room {
        name: "server",
        sees: &[
            "base", "domain", "wire", "store", "relay", "app", "rpc", "gateway",
        ],
        never: &[],
    },
    Room {
        name: "daemon",
        sees: &["base", "domain", "wire", "driver"],
        never: &[],
    },
    Room {
        name: "client",
        sees: &["base", "domain", "wire"],
        never: &[],
    },
    Room {
        name: "bench",
        sees: &["base", "domain", "wire", "client"],
        never: &[],
    },
    Room {
        name: "cli",
        sees: &[
            "base", "domain", "wire", "store", "relay", "app", "rpc", "gateway", "server",
            "daemon", "client", "driver", "bench",
        ],
        never: &[],
    },
];

/// The files that only put the rooms together.
const OUTSIDE_THE_ROOMS: &[&str] = &["lib.rs", "main.rs"];

#[test]
fn imports_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for file in rust_files(&src) {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        let name = file.strip_prefix(&src).expect("a file beneath src");
        faults.extend(faults_of(name, &text));
    }
    assert!(
        faults.is_empty(),
        "{} arrow(s) that may not be there:\n  {}\n",
        faults.len(),
        faults.join("\n  ")
    );
}

/// What is wrong with the paths in a file; `file` is relative to `src/`.
fn faults_of(file: &Path, text: &str) -> Vec<String> {
    let shown = file.to_string_lossy().replace('\\', "/");
    if OUTSIDE_THE_ROOMS.contains(&shown.as_str()) {
        return Vec::new();
    }
    let module: Vec<&str> = shown
        .trim_end_matches(".rs")
        .trim_end_matches("/mod")
        .split('/')
        .collect();
    let Some(room) = ROOMS.iter().find(|room| room.name == module[0]) else {
        return vec![format!(
            "src/{shown}: `{}` is no room of the table in tests/it/rooms.rs",
            module[0]
        )];
    };
    let mut faults = Vec::new();
    for path in source::paths(&module, text) {
        let written = path.segments.join("::");
        let first = path.segments.first().map_or("", String::as_str);
        let wrong = if path.from_root {
            if first.is_empty() || first == room.name || room.sees.contains(&first) {
                continue;
            } else if ROOMS.iter().any(|other| other.name == first) {
                format!("`{}` may not see `{first}` (crate::{written})", room.name)
            } else {
                format!("crate::{written} names no room")
            }
        } else if room.never.iter().any(|never| names(&written, never)) {
            format!("`{}` may not name {written}", room.name)
        } else {
            continue;
        };
        faults.push(format!("src/{shown}:{}: {wrong}", path.line));
    }
    faults
}

/// Whether `path` is within `what`: a module (`std::fs`), or a crate and those named after it
/// (`tonic` stands for `tonic_types` too).
fn names(path: &str, what: &str) -> bool {
    match path.strip_prefix(what) {
        None => false,
        Some(rest) if what.contains("::") => rest.is_empty() || rest.starts_with("::"),
        Some(rest) => rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'),
    }
}

/// Every Rust file beneath `dir`, sorted.
pub(crate) fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

pub(crate) use source::tokens;

#[test]
fn the_table_itself_points_down() {
    for (place, room) in ROOMS.iter().enumerate() {
        for seen in room.sees {
            let below = ROOMS.iter().position(|other| other.name == *seen);
            assert!(
                below.is_some_and(|below| below < place),
                "`{}` sees `{seen}`, which is not above it in the table",
                room.name
            );
        }
    }
}

#[test]
fn an_arrow_up_is_named() {
    let cases = [
        (
            "domain/session.rs",
            "use crate::wire::v1;",
            "src/domain/session.rs:1: `domain` may not see `wire` (crate::wire::v1)",
        ),
        (
            "rpc/session.rs",
            "fn f() { crate::gateway::g() }",
            "src/rpc/session.rs:1: `rpc` may not see `gateway` (crate::gateway::g)",
        ),
        (
            "gateway/sse.rs",
            "\nuse crate::{app, rpc::x};",
            "src/gateway/sse.rs:2: `gateway` may not see `rpc` (crate::rpc::x)",
        ),
        (
            "daemon/mod.rs",
            "use crate::{base, store};",
            "src/daemon/mod.rs:1: `daemon` may not see `store` (crate::store)",
        ),
        (
            "store/local/mod.rs",
            "use super::super::relay::Link;",
            "src/store/local/mod.rs:1: `store` may not see `relay` (crate::relay::Link)",
        ),
        (
            "base/id.rs",
            "mod tests { use super::super::super::app::x; }",
            "src/base/id.rs:1: `base` may not see `app` (crate::app::x)",
        ),
        (
            "client/mod.rs",
            "use crate::thing;",
            "src/client/mod.rs:1: crate::thing names no room",
        ),
        (
            "helpers/mod.rs",
            "",
            "src/helpers/mod.rs: `helpers` is no room of the table in tests/it/rooms.rs",
        ),
        (
            "helpers.rs",
            "",
            "src/helpers.rs: `helpers` is no room of the table in tests/it/rooms.rs",
        ),
        (
            "domain/link.rs",
            "use tokio::sync::mpsc;",
            "src/domain/link.rs:1: `domain` may not name tokio::sync::mpsc",
        ),
        (
            "domain/link.rs",
            "#[tokio::test]\nfn f() {}",
            "src/domain/link.rs:1: `domain` may not name tokio::test",
        ),
        (
            "domain/link.rs",
            "use std::{fmt, fs::File};",
            "src/domain/link.rs:1: `domain` may not name std::fs::File",
        ),
        (
            "domain/link.rs",
            "use tokio_util::codec;",
            "src/domain/link.rs:1: `domain` may not name tokio_util::codec",
        ),
        (
            "app/mod.rs",
            "fn f() -> tonic_types::Status {}",
            "src/app/mod.rs:1: `app` may not name tonic_types::Status",
        ),
        (
            "relay/mod.rs",
            "use prost::Message;",
            "src/relay/mod.rs:1: `relay` may not name prost::Message",
        ),
    ];
    for (file, text, expected) in cases {
        assert_eq!(faults_of(Path::new(file), text), [expected]);
    }
}

#[test]
fn an_arrow_down_or_within_a_room_is_fine() {
    let cases = [
        (
            "cli/up.rs",
            "use crate::{server, daemon, client, base::Error};",
        ),
        ("server/mod.rs", "use crate::rpc; use crate::gateway;"),
        (
            "domain/link/mod.rs",
            "use super::session; use crate::domain::event; use crate::base::Code;",
        ),
        (
            "domain/event.rs",
            "// crate::wire\n/// [`crate::app`]\nuse std::fmt;",
        ),
        (
            "store/local/journal.rs",
            "use super::super::Journal; use std::fs::File; use prost::Message;",
        ),
        (
            "relay/mod.rs",
            "use crate::wire::EventBatch; use tokio::sync::watch;",
        ),
        ("main.rs", "use baton::cli; use crate::anything;"),
    ];
    for (file, text) in cases {
        let faults: [&str; 0] = [];
        assert_eq!(faults_of(Path::new(file), text), faults, "in {file}");
    }
}
