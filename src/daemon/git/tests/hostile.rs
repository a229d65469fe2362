//! Repositories and requests that want more than they may.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::rig::{Rig, commit, git, try_git};
use crate::base::Code;
use crate::domain::worktree::{Create, Merge, OrderBody};

/// Puts a program everywhere that a repository can name one. Each writes a marker.
fn arm(top: &Path, marker: &Path) {
    let script = top.parent().unwrap().join("evil.sh");
    let text = format!("#!/bin/sh\necho \"$0 $@\" >> {}\ncat\n", marker.display());
    std::fs::write(&script, &text).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&script, mode.clone()).unwrap();
    let hooks = top.join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    for hook in [
        "post-checkout",
        "post-commit",
        "post-merge",
        "post-rewrite",
        "post-index-change",
        "pre-commit",
        "pre-merge-commit",
        "prepare-commit-msg",
        "commit-msg",
        "reference-transaction",
        "pre-auto-gc",
        "fsmonitor-watchman",
        "post-update",
        "update",
    ] {
        std::fs::write(hooks.join(hook), &text).unwrap();
        std::fs::set_permissions(hooks.join(hook), mode.clone()).unwrap();
    }
    let evil = script.to_str().unwrap();
    for name in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.gitProxy",
        "core.askPass",
        "core.editor",
        "core.pager",
        "core.alternateRefsCommand",
        "sequence.editor",
        "gpg.program",
        "gpg.ssh.program",
        "credential.helper",
        "diff.external",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil=x.y.process",
        "diff.evil.command",
        "diff.evil.textconv",
        "merge.evil.driver",
        "merge.default",
        "hook.evil.command",
        "trailer.evil.command",
        "pager.diff",
        "pager.status",
        "interactive.diffFilter",
        "uploadpack.packObjectsHook",
        "receive.procReceiveRefs",
        "alias.status",
        "alias.add",
    ] {
        let value = match name {
            "merge.default" => "evil",
            "alias.status" | "alias.add" => "!/bin/false",
            _ => evil,
        };
        git(top, &["config", name, value]);
    }
    for (name, value) in [
        ("filter.evil.required", "true"),
        ("filter.evil=x.y.required", "true"),
        ("commit.gpgSign", "true"),
        ("merge.verifySignatures", "true"),
        ("log.showSignature", "true"),
        ("hook.evil.event", "post-checkout"),
        ("submodule.recurse", "true"),
        ("diff.submodule", "log"),
        ("status.submoduleSummary", "true"),
        ("core.untrackedCache", "true"),
        ("color.ui", "always"),
        ("gc.auto", "1"),
        ("core.splitIndex", "true"),
    ] {
        git(top, &["config", name, value]);
    }
    let attributes = "* filter=evil diff=evil merge=evil\n*.x filter=evil=x.y\n";
    std::fs::create_dir_all(top.join(".git/info")).unwrap();
    std::fs::write(top.join(".git/info/attributes"), attributes).unwrap();
}

#[test]
fn a_repository_runs_nothing() {
    let rig = Rig::new();
    let attributes = "* filter=evil diff=evil merge=evil\n";
    commit(&rig.top, ".gitattributes", attributes);
    let first = rig.create(rig.wanted("before")).unwrap();
    commit(&first.path(), "file", "one\nTWO\nthree\n");
    let fits = rig.create(rig.wanted("fits")).unwrap();
    commit(&fits.path(), "other", "x\n");
    let marker = rig.top.parent().unwrap().join("marker");
    arm(&rig.top, &marker);

    let made = rig.create(rig.wanted("t")).unwrap();
    let path = made.path();
    assert_eq!(
        std::fs::read_to_string(path.join("file")).unwrap(),
        "one\ntwo\nthree\n"
    );
    std::fs::write(path.join("file"), "changed\n").unwrap();
    std::fs::write(path.join("new.x"), "new\n").unwrap();
    let look = rig.look(made.id);
    assert_eq!((look.uncommitted, look.untracked), (1, 1));
    rig.order(made.id, OrderBody::Diff { max_bytes: 10_000 })
        .unwrap();
    rig.merged(fits.id);
    let deleted = rig.delete(made.id, true, true).unwrap();
    let back = rig
        .create(Create {
            branch: "recover/x".to_owned(),
            directory: "back".to_owned(),
            snapshot: deleted.recover_ref,
            ..rig.wanted("t")
        })
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(back.path().join("new.x")).unwrap(),
        "new\n"
    );
    rig.recoverable();
    let test = Merge {
        test: vec!["true".to_owned()],
        ..Merge::default()
    };
    rig.merge(first.id, test).unwrap();
    let error = rig.create(Create {
        fetch: true,
        ..rig.wanted("fetched")
    });
    assert_eq!(error.err().unwrap().code(), Code::GitError);
    let said = std::fs::read_to_string(&marker).unwrap_or_default();
    assert_eq!(said, "", "something of the repository was run");
    // The same by git without our precautions does run it: the trap works.
    try_git(&path.parent().unwrap().join("back"), &["status"]);
    try_git(&rig.top, &["checkout", "-q", "--detach"]);
    assert!(marker.exists());
}

#[test]
fn a_merge_driver_leaves_a_conflict_and_nothing_else() {
    let rig = Rig::new();
    commit(&rig.top, ".gitattributes", "file merge=evil\n");
    let made = rig.create(rig.wanted("t")).unwrap();
    commit(&made.path(), "file", "ONE\ntwo\nthree\n");
    commit(&rig.top, "file", "one\ntwo\nTHREE\n");
    git(&rig.top, &["config", "merge.evil.driver", "true"]);
    let report = rig.merge(made.id, Merge::default()).unwrap();
    assert_eq!(
        report.verdict,
        crate::domain::worktree::MergeVerdict::Conflict
    );
}

#[test]
fn a_worktree_s_own_git_file_leads_nobody_elsewhere() {
    let rig = Rig::new();
    let marker = rig.top.parent().unwrap().join("marker");
    let evil = rig.top.parent().unwrap().join("evil");
    std::fs::create_dir(&evil).unwrap();
    git(&evil, &["init", "-q"]);
    commit(&evil, "x", "x");
    arm(&evil, &marker);
    let made = rig.create(rig.wanted("t")).unwrap();
    std::fs::write(
        made.path().join(".git"),
        format!("gitdir: {}/.git\n", evil.display()),
    )
    .unwrap();
    let look = rig.look(made.id);
    assert_eq!((look.uncommitted, look.untracked), (0, 0));
    rig.delete(made.id, true, false).unwrap();
    assert!(!marker.exists() && evil.join(".git").exists());
}

#[test]
fn no_path_leads_out() {
    let rig = Rig::new();
    let outside = rig.dir.path().canonicalize().unwrap().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "s").unwrap();
    // The root is a link.
    symlink(&outside, rig.top.join(".worktrees")).unwrap();
    let error = rig.create(rig.wanted("t")).err().unwrap();
    assert_eq!(error.code(), Code::Forbidden, "{error}");
    std::fs::remove_file(rig.top.join(".worktrees")).unwrap();
    // The file of excluded names is a link.
    let exclude = rig.top.join(".git/info/exclude");
    std::fs::create_dir_all(exclude.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(&exclude);
    symlink(outside.join("written"), &exclude).unwrap();
    assert_eq!(
        rig.create(rig.wanted("t")).err().unwrap().code(),
        Code::GitError
    );
    std::fs::remove_file(&exclude).unwrap();
    // What is copied comes from elsewhere, or goes elsewhere.
    symlink(outside.join("secret"), rig.top.join("link.ignored")).unwrap();
    std::fs::create_dir(rig.top.join("dir")).unwrap();
    std::fs::write(rig.top.join("dir/secret.ignored"), "x").unwrap();
    let copying = |file: &str, base: &str| {
        let create = Create {
            copy_files: vec![file.to_owned()],
            base: base.to_owned(),
            ..rig.wanted("t")
        };
        rig.create(create).err().map(|error| error.code())
    };
    assert_eq!(copying("link.ignored", ""), Some(Code::InvalidInput));
    for bad in ["/etc/passwd", "../secret", ".git/config", "a\0b", "missing"] {
        assert_eq!(copying(bad, ""), Some(Code::InvalidInput), "{bad:?}");
    }
    git(&rig.top, &["checkout", "-qb", "linked"]);
    symlink(&outside, rig.top.join("dir2")).unwrap();
    git(&rig.top, &["add", "dir2"]);
    git(&rig.top, &["commit", "-qm", "link"]);
    git(&rig.top, &["checkout", "-q", "main"]);
    std::fs::create_dir(rig.top.join("dir2")).unwrap();
    std::fs::write(rig.top.join("dir2/x.ignored"), "x").unwrap();
    assert_eq!(
        copying("dir2/x.ignored", "linked"),
        Some(Code::InvalidInput)
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    // What failed has left nothing.
    assert_eq!(rig.git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(copying("dir/secret.ignored", ""), None);
}

#[test]
fn a_repository_that_says_its_files_or_its_git_directory_are_elsewhere_is_refused() {
    let rig = Rig::new();
    let outside = rig.dir.path().canonicalize().unwrap().join("outside");
    std::fs::create_dir(&outside).unwrap();
    git(
        &rig.top,
        &["config", "core.worktree", outside.to_str().unwrap()],
    );
    let error = rig.create(rig.wanted("t")).err().unwrap();
    assert!(
        matches!(error.code(), Code::Forbidden | Code::WorktreesDisabled),
        "{error}"
    );
    git(&outside, &["init", "-q", "real"]);
    let pointing = rig.top.parent().unwrap().join("pointing");
    std::fs::create_dir(&pointing).unwrap();
    std::fs::write(
        pointing.join(".git"),
        format!("gitdir: {}/real/.git\n", outside.display()),
    )
    .unwrap();
    let error = rig
        .create(Create {
            repository: pointing.to_str().unwrap().to_owned(),
            ..rig.wanted("t")
        })
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::Forbidden, "{error}");
}

#[test]
fn a_worktree_that_was_replaced_by_a_link_is_left_alone() {
    let rig = Rig::new();
    let made = rig.create(rig.wanted("t")).unwrap();
    let victim = rig.top.parent().unwrap().join("victim");
    std::fs::rename(made.path(), &victim).unwrap();
    symlink(&victim, made.path()).unwrap();
    let error = rig.delete(made.id, true, true).unwrap_err();
    assert_eq!(error.code(), Code::InvalidState);
    assert!(victim.join("file").exists());
}

#[test]
fn names_that_are_no_names_are_refused() {
    let rig = Rig::new();
    let long = "x".repeat(4_096);
    for bad in ["-evil", "..", "@{", "a\0b", "a\u{1b}b", "mаin", &long] {
        let fields: [fn(&mut Create, String); 5] = [
            |create, bad| create.agent_name = bad,
            |create, bad| create.task_id = bad,
            |create, bad| create.branch = bad,
            |create, bad| create.base = bad,
            |create, bad| create.directory = bad,
        ];
        for set in fields {
            let mut create = rig.wanted("t");
            set(&mut create, bad.to_owned());
            assert_eq!(
                rig.create(create).err().unwrap().code(),
                Code::InvalidInput,
                "{bad:?}"
            );
        }
    }
    assert!(!rig.top.join(".worktrees").exists());
    let missing = Create {
        base: "nothing".to_owned(),
        ..rig.wanted("t")
    };
    assert_eq!(
        rig.create(missing).err().unwrap().code(),
        Code::InvalidInput
    );
}
