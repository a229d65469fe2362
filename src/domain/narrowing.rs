//! What a token is narrowed to: the one rule that says which sessions it sees.
//!
//! What the rule looks at (id, daemon, directory, ancestors) never changes while a session is there, so a
//! session that was seen once is seen until it is deleted, and none comes into view later but new ones.

use serde::{Deserialize, Serialize};

use super::field;
use super::session::{Gone, Session};
use crate::base::id::{DaemonId, SessionId};
use crate::base::{Error, Result};

/// The most projects a token is narrowed to.
pub const MAX_PROJECTS: usize = 16;
/// The most sessions a token is narrowed to.
pub const MAX_SESSIONS: usize = 100;

/// A directory whose sessions are seen, and those of all directories beneath it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Project {
    /// The directory: absolute.
    pub directory: String,
    /// The daemon on whose machine it is; `None` is every daemon.
    #[serde(default)]
    pub daemon_id: Option<DaemonId>,
}

impl Project {
    /// Whether a path lies in it, by the names alone: links are the daemon's to follow.
    pub fn contains(&self, path: &str) -> bool {
        let (Some(mut own), Some(mut given)) = (names(&self.directory), names(path)) else {
            return false;
        };
        own.all(|name| given.next() == Some(name))
    }

    /// Whether a path on a daemon's machine lies in it.
    pub fn holds(&self, daemon: DaemonId, path: &str) -> bool {
        self.daemon_id.is_none_or(|id| id == daemon) && self.contains(path)
    }
}

/// The names of an absolute path; `None` for one that is not absolute or leads upwards.
fn names(path: &str) -> Option<impl Iterator<Item = &str>> {
    let rest = path.strip_prefix('/')?;
    let names = || rest.split('/').filter(|name| !matches!(*name, "" | "."));
    (!names().any(|name| name == "..")).then(names)
}

/// What a token is narrowed to. It sees what fits any of it; of nothing, it sees nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Narrowing {
    /// All sessions in these.
    #[serde(default)]
    pub projects: Vec<Project>,
    /// These sessions, and what continues them or branches off from them.
    #[serde(default)]
    pub sessions: Vec<SessionId>,
}

impl Narrowing {
    /// What a caller asked for, in one form: directories without needless slashes, nothing twice.
    pub fn checked(self) -> Result<Self> {
        let bad = |field: String, problem: &str| Err(Error::invalid(&field, problem));
        if self.projects.is_empty() && self.sessions.is_empty() {
            return bad(
                "narrowing".to_owned(),
                "names neither a project nor a session; leave it out for a token that sees everything",
            );
        }
        if self.projects.len() > MAX_PROJECTS {
            return bad("narrowing.projects".to_owned(), "has more than 16 entries");
        }
        if self.sessions.len() > MAX_SESSIONS {
            return bad(
                "narrowing.session_ids".to_owned(),
                "has more than 100 entries",
            );
        }
        let mut checked = Narrowing::default();
        for (index, project) in self.projects.into_iter().enumerate() {
            let at = || format!("narrowing.projects[{index}].directory");
            field::path(&at(), &project.directory)?;
            let Some(names) = names(&project.directory) else {
                return bad(at(), "is missing");
            };
            let directory = format!("/{}", names.collect::<Vec<_>>().join("/"));
            let project = Project {
                directory,
                ..project
            };
            if !checked.projects.contains(&project) {
                checked.projects.push(project);
            }
        }
        for id in self.sessions {
            if !checked.sessions.contains(&id) {
                checked.sessions.push(id);
            }
        }
        Ok(checked)
    }

    /// Whether a session is seen.
    pub fn sees(&self, session: &Session) -> bool {
        self.names(session.id)
            || session.lineage().any(|id| self.names(id))
            || self.has_place(session.daemon_id, &session.cwd)
    }

    /// Whether a session was seen while it was there.
    pub fn saw(&self, gone: &Gone) -> bool {
        self.names(gone.id)
            || gone.ancestors.iter().any(|id| self.names(*id))
            || self.has_place(gone.daemon_id, &gone.cwd)
    }

    fn names(&self, id: SessionId) -> bool {
        self.sessions.contains(&id)
    }

    /// Whether a directory on a daemon's machine lies in one of the projects: sessions may begin there.
    pub fn has_place(&self, daemon: DaemonId, path: &str) -> bool {
        self.projects
            .iter()
            .any(|project| project.holds(daemon, path))
    }

    /// Whether what holds beneath a directory, on every daemon, touches only sessions that are seen.
    pub fn covers(&self, directory: &str) -> bool {
        self.everywhere().any(|project| project.contains(directory))
    }

    /// The directory to which something must be bound that is made in a session and outlives it, so that it
    /// touches nothing that is not seen; `None` if there is none.
    pub fn bound_of(&self, session: &Session) -> Option<&str> {
        self.everywhere()
            .filter(|project| project.contains(&session.cwd))
            .map(|project| project.directory.as_str())
            .max_by_key(|directory| directory.len())
    }

    fn everywhere(&self) -> impl Iterator<Item = &Project> {
        self.projects
            .iter()
            .filter(|project| project.daemon_id.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    fn project(directory: &str) -> Project {
        Project {
            directory: directory.to_owned(),
            daemon_id: None,
        }
    }

    #[test]
    fn a_project_holds_its_directory_and_what_is_beneath() {
        let held = project("/srv/app");
        for path in ["/srv/app", "/srv/app/", "//srv/./app//x", "/srv/app/x/y"] {
            assert!(held.contains(path), "{path}");
        }
        for path in [
            "",
            "srv/app",
            "/srv",
            "/srv/app2",
            "/srv/ap",
            "/srv/app/../b",
            "/SRV/app",
            "/",
        ] {
            assert!(!held.contains(path), "{path}");
        }
        assert!(project("/").contains("/anything"));
        assert!(!project("/").contains(""));
        let (one, two) = (DaemonId::from_bits(1), DaemonId::from_bits(2));
        let bound = Project {
            daemon_id: Some(one),
            ..held
        };
        assert!(bound.holds(one, "/srv/app") && !bound.holds(two, "/srv/app"));
    }

    #[test]
    fn what_names_nothing_sees_nothing() {
        let nothing = Narrowing::default();
        assert!(nothing.clone().checked().is_err());
        assert!(!nothing.has_place(DaemonId::from_bits(1), "/"));
        assert!(!nothing.covers("/") && !nothing.covers(""));
        // A record without the lists reads as nothing, not as everything.
        assert_eq!(serde_json::from_str::<Narrowing>("{}").unwrap(), nothing);
    }

    #[test]
    fn what_holds_on_every_machine_needs_a_project_on_every_machine() {
        let everywhere = Narrowing {
            projects: vec![project("/srv/app")],
            sessions: Vec::new(),
        };
        assert!(everywhere.covers("/srv/app/x"));
        assert!(!everywhere.covers("/srv") && !everywhere.covers(""));
        let bound = Narrowing {
            projects: vec![Project {
                daemon_id: Some(DaemonId::from_bits(1)),
                ..project("/srv/app")
            }],
            sessions: Vec::new(),
        };
        assert!(!bound.covers("/srv/app"));
    }

    #[test]
    fn a_directory_has_one_form() {
        let id = SessionId::generate(Timestamp::EPOCH);
        let asked = Narrowing {
            projects: vec![project("/srv//app/"), project("/srv/app"), project("/")],
            sessions: vec![id, id],
        };
        let checked = asked.checked().unwrap();
        assert_eq!(checked.projects, [project("/srv/app"), project("/")]);
        assert_eq!(checked.sessions, [id]);
        let long = "/x".repeat(3_000);
        for bad in ["", "srv", "/a/../b", "/a\n", &long] {
            let asked = Narrowing {
                projects: vec![project(bad)],
                sessions: Vec::new(),
            };
            let field = asked.checked().unwrap_err().fields()[0].field.clone();
            assert_eq!(field, "narrowing.projects[0].directory", "{bad}");
        }
        let many = Narrowing {
            projects: Vec::new(),
            sessions: (0..101).map(SessionId::from_bits).collect(),
        };
        assert!(many.checked().is_err());
    }

    /// A session's record as an earlier version wrote it.
    fn session(id: u128, parent: Option<u128>) -> Session {
        let id_of = |bits: u128| SessionId::from_bits(bits).to_string();
        serde_json::from_value(serde_json::json!({
            "id": id_of(id), "title": "", "daemon_id": DaemonId::from_bits(1).to_string(), "harness": "demo",
            "model": "", "permission_mode": "ask", "mode": "headless", "one_shot": false, "cwd": "/srv/app",
            "lifecycle": "ended", "end": null, "activity": "unknown", "activity_source": "protocol",
            "activity_confidence": 0, "detached_since": null, "provider_session_id": "",
            "resumed_from": null, "forked_from": parent.map(id_of), "resumed_by": null,
            "created_at": 0, "started_at": null, "ended_at": null, "last_event_at": 0,
            "usage": crate::domain::Usage::default(), "turns": 0, "pending_prompts": 0, "queued_inputs": 0,
            "limits": {}, "labels": {}, "created_by": {"kind": "server", "id": "", "name": ""},
        }))
        .unwrap()
    }

    fn naming(id: u128) -> Narrowing {
        Narrowing {
            projects: Vec::new(),
            sessions: vec![SessionId::from_bits(id)],
        }
    }

    #[test]
    fn a_session_is_seen_with_what_comes_from_it_and_not_with_what_it_comes_from() {
        let parent = session(2, Some(1));
        let child = Session {
            ancestors: parent.ancestors_of_next(),
            ..session(3, Some(2))
        };
        let grandchild = Session {
            ancestors: child.ancestors_of_next(),
            ..session(4, Some(3))
        };
        for (named, sees) in [(1, true), (2, true), (3, true), (4, true), (5, false)] {
            assert_eq!(naming(named).sees(&grandchild), sees, "{named}");
        }
        assert!(!naming(3).sees(&parent) && !naming(4).sees(&child));
        // A record of an earlier version knows its parent at least.
        assert!(naming(1).sees(&parent));
        // And so it is with what is remembered of it.
        let gone = Gone::of(&grandchild, Vec::new(), Timestamp::EPOCH);
        assert!(naming(1).saw(&gone) && !naming(5).saw(&gone));
        let project = Narrowing {
            projects: vec![project("/srv")],
            sessions: Vec::new(),
        };
        assert!(project.sees(&parent) && project.saw(&gone));
    }

    #[test]
    fn a_line_of_descent_is_bounded_and_the_nearest_are_kept() {
        let mut last = session(1, None);
        for id in 2..=100_u128 {
            last = Session {
                ancestors: last.ancestors_of_next(),
                ..session(id, Some(id - 1))
            };
        }
        assert_eq!(last.ancestors.len(), crate::domain::session::MAX_ANCESTORS);
        assert!(naming(99).sees(&last) && naming(36).sees(&last));
        assert!(!naming(35).sees(&last));
    }
}
