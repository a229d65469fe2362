//! Paths that a server asks for, and words of the owner's configuration, as any text.

use std::fs;
use std::os::unix::fs::symlink;

use super::harness::acp::AcpAgent;
use super::policy::{Policy, PolicyOptions};
use crate::base::fuzz::Target;

/// What is let in lies beneath the root when every link is followed.
#[test]
fn paths_beneath_the_roots() {
    let outside = tempfile::tempdir().expect("a directory");
    let root = tempfile::tempdir().expect("a directory");
    let top = root.path().canonicalize().expect("a path");
    fs::create_dir_all(top.join("in/deep")).expect("a directory");
    symlink(outside.path(), top.join("out")).expect("a link");
    symlink("in", top.join("within")).expect("a link");
    symlink("loop", top.join("loop")).expect("a link");
    let policy = Policy::new(&PolicyOptions {
        roots: vec![top.clone()],
        ..PolicyOptions::default()
    })
    .expect("a policy");
    let seeds = [
        "/in/deep",
        "/out/x",
        "/within/deep/..",
        "/in/../../etc",
        "/loop",
        "//in/./deep/",
        "-prefix/x",
        "",
    ];
    Target::new("daemon_paths")
        .seeds(seeds)
        .words(&["/..", "/out", "/in", "/within", "/.", "//"])
        .run(|bytes| {
            let Ok(path) = std::str::from_utf8(bytes) else {
                return;
            };
            for asked in [path.to_owned(), format!("{}{path}", top.display())] {
                if let Ok(resolved) = policy.resolve("cwd", &asked) {
                    let real = fs::canonicalize(&asked).expect("it is there");
                    assert_eq!(real, resolved);
                    assert!(real.starts_with(&top), "{asked:?} leads to {real:?}");
                }
            }
        });
}

#[test]
fn agents_that_the_owner_names() {
    let seeds = [
        "gemini=gemini --acp",
        "x=[\"/bin/x\",\"a b\"]",
        "=x",
        "a=./x",
    ];
    Target::new("daemon_acp_agents").seeds(seeds).run(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        if let Ok(agent) = AcpAgent::parse(text) {
            let program = &agent.argv()[0];
            assert!(!program.is_empty() && (!program.contains('/') || program.starts_with('/')));
            assert!(agent.argv().iter().all(|word| !word.contains('\0')));
            let argv = serde_json::to_string(agent.argv()).expect("JSON");
            let again =
                AcpAgent::parse(&format!("{}={argv}", agent.name())).expect("it was accepted");
            assert_eq!((again.name(), again.argv()), (agent.name(), agent.argv()));
        }
    });
}
