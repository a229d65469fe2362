//! Routes of plain HTTP, each with what it asks of its caller.
//!
//! A route is made here or not at all: the server's layers serve only what is in this table, and the tests of
//! access go through it, so that none can be forgotten.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, patch, post};
use http::Method;

use crate::app::access::Need;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its method. Where it is GET, HEAD is served as well.
    pub method: Method,
    /// Its path; what varies is in braces, as axum has it.
    pub path: &'static str,
    /// What it asks of its caller.
    pub need: Need,
}

/// Routes being put together; `S` is the state that their handlers share.
pub struct Routes<S = ()> {
    router: Router<S>,
    table: Vec<Route>,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Routes {
            router: Router::new(),
            table: Vec::new(),
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// Adds a route that is read: GET.
    pub fn get<H, T>(self, path: &'static str, need: Need, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.add(Method::GET, path, need, get(handler))
    }

    /// Adds a route that does something: POST.
    pub fn post<H, T>(self, path: &'static str, need: Need, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.add(Method::POST, path, need, post(handler))
    }

    /// Adds a route that changes what is there: PATCH.
    pub fn patch<H, T>(self, path: &'static str, need: Need, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.add(Method::PATCH, path, need, patch(handler))
    }

    /// Adds a route that takes away what is there: DELETE.
    pub fn delete<H, T>(self, path: &'static str, need: Need, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.add(Method::DELETE, path, need, delete(handler))
    }

    fn add(
        mut self,
        method: Method,
        path: &'static str,
        need: Need,
        handlers: MethodRouter<S>,
    ) -> Self {
        self.router = self.router.route(path, handlers);
        self.table.push(Route { method, path, need });
        self
    }

    /// Gives the handlers their state.
    pub fn with_state(self, state: S) -> Routes {
        Routes {
            router: self.router.with_state(state),
            table: self.table,
        }
    }
}

impl Routes {
    /// Adds other routes.
    pub fn merge(mut self, other: Routes) -> Self {
        self.router = self.router.merge(other.router);
        self.table.extend(other.table);
        self
    }

    /// The router, and the table of all that it routes.
    pub fn into_parts(self) -> (Router, Vec<Route>) {
        (self.router, self.table)
    }
}
