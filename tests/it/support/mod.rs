//! What the integration tests stand on: things that play the other side.

pub mod baton;
pub mod claude;
pub mod http;
pub mod model_api;
pub mod model_script;
pub mod old_daemon;
pub mod responses_api;
pub mod said;
pub mod sessions;
pub mod stdio_agent;
pub mod tls;
