//! The built-in scripted agent: it speaks the protocol of a real agent and needs no account.
