//! One pod, or some, out of a whole node: which are meant, which cgroups are theirs, and which samples stay.
//!
//! Reading is at the rim ([`Roster::ask`], [`tree`]); what is decided is decided by [`choose`] and [`Followed`], which are free of
//! I/O. Names come from the API server and the container runtime; a pod's uid is in its cgroups' paths and needs neither.

mod choice;
mod followed;
mod part_names;
mod refusal;
mod roster;
pub mod tree;
mod wanted;

pub use choice::{Choice, ChosenPod, choose};
pub use followed::Followed;
pub use part_names::PartNames;
pub use refusal::Refusal;
pub use roster::{KnownPod, Roster, Sources};
pub use tree::{PodCgroup, Tree};
pub use wanted::{Wanted, Who, WordsError};
