//! One file a gRPC service: authenticate, convert in, one `app` call, convert out.

pub mod link;
