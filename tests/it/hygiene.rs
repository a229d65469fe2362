//! What must not be in the files of this repository.

use std::fs;
use std::path::{Path, PathBuf};

use super::rooms::{rust_files, tokens};

/// Longer files hold more than one subject.
const MAX_LINES: usize = 1_500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn no_source_file_is_too_long() {
    for file in rust_files(&root().join("src")) {
        let lines = read(&file).lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines; the most is {MAX_LINES}",
            shown(&file)
        );
    }
}

#[test]
fn nothing_half_done_is_left_in_the_source() {
    for file in rust_files(&root().join("src")) {
        let tokens = tokens(&read(&file));
        for pair in tokens.windows(2) {
            let half_done = ["todo", "unimplemented", "dbg"].contains(&pair[0].text.as_str());
            assert!(
                !(half_done && pair[1].text == "!"),
                "{}:{} has {}!",
                shown(&file),
                pair[0].line,
                pair[0].text
            );
        }
    }
}

#[test]
fn no_test_is_ignored() {
    for dir in ["src", "tests/it"] {
        for file in rust_files(&root().join(dir)) {
            let tokens = tokens(&read(&file));
            for pair in tokens.windows(2) {
                assert!(
                    !(pair[0].text == "[" && pair[1].text == "ignore"),
                    "{}:{} has an ignored test",
                    shown(&file),
                    pair[0].line
                );
            }
        }
    }
}

#[test]
fn no_file_names_a_path_of_this_machine() {
    // Short paths such as `/src` are no sign of a machine.
    let mut paths: Vec<String> = root()
        .ancestors()
        .take(2)
        .filter(|dir| dir.components().count() > 2)
        .map(|dir| dir.to_string_lossy().into_owned())
        .collect();
    // Every machine has a /root, and so have recorded conversations.
    let home = std::env::var_os("HOME").filter(|home| home != "/root" && home.len() > 1);
    if let Some(home) = home {
        paths.push(format!("{}/", home.to_string_lossy().trim_end_matches('/')));
    }
    for file in text_files(root()) {
        for (line, text) in read(&file).lines().enumerate() {
            for path in &paths {
                assert!(
                    !text.contains(path.as_str()),
                    "{}:{} names {path}",
                    shown(&file),
                    line + 1
                );
            }
        }
    }
}

#[test]
fn npm_lock_files_name_no_download_host() {
    for file in text_files(root()) {
        if file.ends_with("package-lock.json") {
            assert!(
                !read(&file).contains("\"resolved\": \"http"),
                "{} names the host that packages came from",
                shown(&file)
            );
        }
    }
}

/// Every text file of the repository but what is built or installed into it.
fn text_files(dir: &Path) -> Vec<PathBuf> {
    const NOT_OURS: &[&str] = &[".git", "node_modules", "target"];
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if NOT_OURS.contains(&name.as_ref()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files.extend(text_files(&path));
        } else if fs::read_to_string(&path).is_ok() {
            files.push(path);
        }
    }
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn shown(file: &Path) -> String {
    let file = file.strip_prefix(root()).unwrap_or(file);
    file.display().to_string()
}
