//! Time and chance, as arguments: tests bring their own and never wait.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

/// What delivery asks of the world besides the network.
pub trait Timing: Send + Sync {
    /// Ends after `duration`.
    fn wait(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// Random, from 0 to below 1.
    fn fraction(&self) -> f64;
    /// For intervals.
    fn now(&self) -> Instant;
    /// For people.
    fn wall_clock(&self) -> SystemTime;
}

/// The real ones. In a tokio runtime with time only.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemTiming;

impl Timing for SystemTiming {
    fn wait(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn fraction(&self) -> f64 {
        rand::random()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_clock(&self) -> SystemTime {
        SystemTime::now()
    }
}
