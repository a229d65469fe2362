//! An open loop: what is due is due, whether the last was answered or not.
//!
//! The schedule is fixed beforehand and kept by a thread of its own; what is late is sent at once, and its latency
//! still counts from when it was due. So a stall is charged to everything behind it.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use tokio::sync::mpsc;

use super::stamp::now_ns;

/// Events that are due: the time, in nanoseconds of [`now_ns`], and the number of each.
pub fn every(interval: Duration, count: u64) -> mpsc::Receiver<(u64, u64)> {
    let room = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .clamp(1, 1 << 20);
    let (due, dues) = mpsc::channel(room);
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    std::thread::spawn(move || {
        let begin = now_ns() + 1_000_000;
        for number in 0..count {
            let at = begin + number * interval;
            sleep_until(at);
            if due.blocking_send((at, number)).is_err() {
                return;
            }
        }
    });
    dues
}

fn sleep_until(at: u64) {
    let seconds = i64::try_from(at / 1_000_000_000).unwrap_or(i64::MAX);
    let rest = i64::try_from(at % 1_000_000_000).unwrap_or(0);
    let until = TimeSpec::new(seconds, rest);
    while now_ns() < at {
        // A signal wakes it early: then again.
        let _ = clock_nanosleep(
            ClockId::CLOCK_MONOTONIC,
            ClockNanosleepFlags::TIMER_ABSTIME,
            &until,
        );
    }
}
