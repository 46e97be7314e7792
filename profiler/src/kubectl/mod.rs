//! `everflame kubectl`: pods of a cluster, profiled from wherever the API server can be reached.
//!
//! Which pods and nodes are meant ([`target`]), what is started for them ([`manifest`]), how far that is ([`stage`], [`start`]), how
//! its result comes back ([`parcel`]), how long a server may be away ([`outage`]) and a log be tried ([`tries`]), whose samples are
//! ([`owners`]) and what stopped it ([`refusal`]) is decided free of I/O. [`cluster`] asks the API server, [`one_shot`] sees a Job through and
//! tells of it ([`news`]), [`resident`] finds an agent that is there already and bridges to its page.
//!
//! Constraint: whatever is started goes away by itself, also when nobody is left who would delete it.

pub mod cluster;
pub mod manifest;
pub mod news;
pub mod objects;
pub mod one_shot;
pub mod outage;
pub mod owners;
pub mod parcel;
pub mod refusal;
pub mod resident;
pub mod stage;
pub mod start;
pub mod target;
pub mod tries;
pub mod yaml;

pub use cluster::{Cluster, ClusterError};
pub use refusal::Refusal;
pub use target::{NodePods, Target};
