//! The store: traits, their providers, and one conformance suite that all providers pass.
