//! Directories on the machines of daemons.

use std::time::Duration;

use crate::app::App;
use crate::app::access::Caller;
use crate::app::sight::beyond;
use crate::base::id::DaemonId;
use crate::base::{Code, Error, Result};
use crate::domain::Narrowing;
use crate::domain::daemon::{Directory, DirectoryEntry, DirectoryQuery};
use crate::domain::policy::is_within;

/// How long a daemon may take to look something up.
const QUERY_DEADLINE: Duration = Duration::from_secs(10);

impl App {
    /// Lists a directory on a daemon's machine; of a narrowed caller's projects only.
    pub async fn list_directory(
        &self,
        caller: &Caller,
        id: DaemonId,
        query: DirectoryQuery,
    ) -> Result<Directory> {
        let path = &query.path;
        self.get_daemon(id).await?;
        if !path.is_empty() && (!path.starts_with('/') || path.contains('\0')) {
            return Err(Error::invalid(
                "path",
                "must be absolute, or empty for the allowed roots",
            ));
        }
        match &caller.narrowing {
            None => self.look_into(id, query).await,
            Some(narrowing) if path.is_empty() => self.project_roots(id, narrowing).await,
            Some(narrowing) => {
                if !narrowing.has_place(id, path) {
                    return Err(beyond(caller, "looks into its projects only"));
                }
                let mut found = self.look_into(id, query).await?;
                if !self.lies_within(id, narrowing, &found.path).await? {
                    return Err(beyond(caller, "looks into its projects only"));
                }
                if !found.repository.is_empty()
                    && !self.lies_within(id, narrowing, &found.repository).await?
                {
                    // What lies around the project is not the caller's to know.
                    found.repository.clear();
                }
                Ok(found)
            }
        }
    }

    async fn look_into(&self, id: DaemonId, query: DirectoryQuery) -> Result<Directory> {
        self.relay().list_directory(id, query, QUERY_DEADLINE).await
    }

    /// Where a directory is, links resolved, and in which repository. `None`: it is not there, or not the daemon's to
    /// show.
    pub(super) async fn locate(
        &self,
        id: DaemonId,
        directory: &str,
        deadline: Duration,
    ) -> Result<Option<Directory>> {
        let query = DirectoryQuery {
            path: directory.to_owned(),
            brief: true,
            ..DirectoryQuery::default()
        };
        // The daemon refuses what is outside of its roots, and what is not there, in the same words.
        match self.relay().list_directory(id, query, deadline).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error.code(), Code::Forbidden | Code::InvalidState) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a narrowed caller is shown instead of a daemon's roots: the roots that lie in its projects, and its
    /// projects that lie in a root.
    async fn project_roots(&self, id: DaemonId, narrowing: &Narrowing) -> Result<Directory> {
        if narrowing.projects.is_empty() {
            return Ok(Directory::default());
        }
        let mut roots = self.look_into(id, DirectoryQuery::default()).await?;
        roots
            .entries
            .retain(|root| narrowing.has_place(id, &root.path));
        for project in &narrowing.projects {
            let listed = |root: &DirectoryEntry| root.path == project.directory;
            if !project.holds(id, &project.directory) || roots.entries.iter().any(listed) {
                continue;
            }
            let found = self.locate(id, &project.directory, QUERY_DEADLINE).await?;
            let Some(found) = found else {
                continue;
            };
            roots.entries.push(DirectoryEntry {
                name: project.directory.clone(),
                path: project.directory.clone(),
                is_directory: true,
                is_repository: !found.path.is_empty() && found.repository == found.path,
            });
        }
        Ok(roots)
    }

    /// Whether a directory that the daemon has resolved lies in a project, whose own directory may be reached
    /// by a link.
    async fn lies_within(
        &self,
        id: DaemonId,
        narrowing: &Narrowing,
        resolved: &str,
    ) -> Result<bool> {
        if narrowing.has_place(id, resolved) {
            return Ok(true);
        }
        for project in &narrowing.projects {
            if !project.holds(id, &project.directory) {
                continue;
            }
            let own = self.locate(id, &project.directory, QUERY_DEADLINE).await?;
            if own.is_some_and(|own| is_within(resolved, &own.path)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
