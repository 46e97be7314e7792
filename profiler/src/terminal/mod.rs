//! The live screen of `everflame top`: who uses the processors, in which functions, called by whom.
//!
//! Intervals come in ([`slice`]), are kept for a minute ([`window`]), added up ([`merged`]) into rows ([`rows`], [`tree`]) that
//! [`state`] chooses by keys ([`keys`]) and [`view`] draws. All of that is free of I/O. What has some is [`sampling`] (threads
//! that make intervals) and [`screen`] (the terminal itself); the loop between them is [`run`].
//!
//! It keeps nothing on disk and delivers nothing: that is `record`'s and the agent's business.

mod help;
mod keys;
mod merged;
mod rows;
pub(crate) mod run;
mod sampling;
pub(crate) mod screen;
mod slice;
mod state;
mod tree;
mod view;
mod window;

#[cfg(test)]
mod made;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod view_tests;
