//! Options, the one-port accept loop, tower layers, background jobs, drain.
