//! A typed client of the gRPC API, used by the command line and by tests.
