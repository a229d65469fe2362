//! Named points at which tests make a process fail or die. Each room lists its own in a file `fault.rs`; in a
//! build without the feature `failpoints` a point is nothing.

/// Passes a point; with the feature, a test may have put something there.
#[inline]
pub fn point(name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// Whether a test has switched a point to `return`.
#[cfg(feature = "failpoints")]
pub fn is_on(name: &str) -> bool {
    fail::fail_point!(name, |_| true);
    false
}
