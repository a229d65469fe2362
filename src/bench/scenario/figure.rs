//! Names of figures that several scenarios measure.

/// Processor time for what was brought.
pub const CPU_PER_EVENT: &str = "server CPU per event, µs";
/// Processor time for what was read.
pub const CPU_PER_DELIVERY: &str = "server CPU per delivery, µs";
/// How many events went through.
pub const EVENTS: &str = "events a second";
/// How many events were read, over all readers.
pub const DELIVERIES: &str = "deliveries a second";
/// How much was read.
pub const BYTES: &str = "bytes read for a delivery";
/// When half of what was brought was read after it was due.
pub const ARRIVAL_P50: &str = "arrival p50, µs";
/// When nearly all was read.
pub const ARRIVAL_P99: &str = "arrival p99, µs";
