//! When to try again. Sans-IO: randomness and the clock are arguments.
//!
//! Exponential back-off with full jitter: any time up to a ceiling that doubles, so that a thousand nodes whose server comes back
//! do not come at once. After [`OPEN_AFTER`] failures in a row the circuit is open: tries come at half the longest ceiling to all
//! of it, and nothing else is done for the sink than to keep what it shall get.

use std::time::{Duration, SystemTime};

/// Failures in a row after which a sink counts as dead.
pub const OPEN_AFTER: u32 = 5;

/// How a sink is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Ceiling of the wait after the first failure.
    pub first: Duration,
    /// Ceiling after many.
    pub longest: Duration,
    /// Most that a server's `Retry-After` is obeyed; a wrong clock or a typing error there shall not end deliveries.
    pub longest_asked: Duration,
    /// Answers of "internal error" after which one message is given up: it may be the message, and others wait behind it.
    pub give_up_after: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            longest_asked: Duration::from_secs(600),
            give_up_after: 12,
        }
    }
}

/// Counts failures in a row and says how long to wait.
#[derive(Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    failures: u32,
}

impl Backoff {
    /// No failure yet.
    pub fn new(policy: RetryPolicy) -> Backoff {
        Backoff { policy, failures: 0 }
    }

    /// After another failure: how long to wait. `fraction` is random, from 0 to below 1; `asked` is what the server said.
    pub fn failed(&mut self, asked: Option<Duration>, fraction: f64) -> Duration {
        let doubled = self.policy.first.saturating_mul(2_u32.saturating_pow(self.failures));
        let ceiling = doubled.min(self.policy.longest);
        self.failures = self.failures.saturating_add(1);
        let fraction = fraction.clamp(0.0, 1.0);
        let wait =
            if self.is_open() { self.policy.longest.mul_f64(0.5 + fraction / 2.0) } else { ceiling.mul_f64(fraction) };
        asked.map_or(wait, |asked| wait.max(asked.min(self.policy.longest_asked)))
    }

    /// The server answered.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the sink counts as dead.
    pub fn is_open(&self) -> bool {
        self.failures >= OPEN_AFTER
    }

    /// The policy.
    pub fn policy(&self) -> &RetryPolicy {
        &self.policy
    }
}

/// The value of `Retry-After`: seconds, or an HTTP date (RFC 9110 §10.2.3). A date in the past is no wait.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: f64) -> Duration {
        Duration::from_secs_f64(number)
    }

    #[test]
    fn waits_double_up_to_the_longest_and_the_jitter_is_full_until_the_circuit_is_open() {
        let mut most = Backoff::new(RetryPolicy::default());
        let waits: Vec<f64> = (0..8).map(|_| most.failed(None, 1.0).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 60.0, 60.0, 60.0, 60.0]);
        let mut least = Backoff::new(RetryPolicy::default());
        let waits: Vec<f64> = (0..8).map(|_| least.failed(None, 0.0).as_secs_f64()).collect();
        assert_eq!(waits, [0.0, 0.0, 0.0, 0.0, 30.0, 30.0, 30.0, 30.0]);
        assert!(least.is_open());
        least.succeeded();
        assert!(!least.is_open());
        assert_eq!(least.failed(None, 0.5), seconds(0.5));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff { policy: RetryPolicy::default(), failures: u32::MAX - 1 };
        for _ in 0..3 {
            assert_eq!(backoff.failed(None, 1.0), seconds(60.0));
        }
    }

    #[test]
    fn what_the_server_asks_for_is_obeyed_within_a_bound() {
        let table = [(None, 0.5), (Some(7.0), 7.0), (Some(0.1), 0.5), (Some(1e6), 600.0)];
        for (asked, expected) in table {
            let mut backoff = Backoff::new(RetryPolicy::default());
            assert_eq!(backoff.failed(asked.map(seconds), 0.5), seconds(expected), "{asked:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:00 GMT").unwrap();
        let table = [
            ("0", Some(0.0)),
            (" 120 ", Some(120.0)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(59.0)),
            ("Fri, 31 Dec 1999 23:00:00 GMT", Some(0.0)),
            ("-1", None),
            ("1.5", None),
            ("99999999999999999999", None),
            ("soon", None),
            ("", None),
        ];
        for (value, expected) in table {
            assert_eq!(retry_after(value, now), expected.map(seconds), "{value:?}");
        }
    }
}
