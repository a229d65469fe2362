//! What a call asks of its caller.

use super::Caller;
use crate::base::Result;
use crate::domain::Scope;

/// What a call asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: liveness.
    Open,
    /// Nothing: liveness, with more for whoever shows a token. One that is not good is refused.
    Offered,
    /// Any token but a join token.
    Token,
    /// A token whose scope allows this one.
    Scope(Scope),
}

impl Need {
    /// [`Code::Forbidden`](crate::base::Code::Forbidden) unless the caller may.
    pub fn admit(self, caller: &Caller) -> Result<()> {
        match self {
            Need::Open | Need::Offered => Ok(()),
            Need::Token if caller.scope != Scope::Join => Ok(()),
            Need::Token => caller.require(Scope::Viewer),
            Need::Scope(needed) => caller.require(needed),
        }
    }
}
