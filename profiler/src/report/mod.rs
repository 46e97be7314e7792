//! What people read: tables and lines made from a profile.
//!
//! Everything here is text in, text out: no files, no terminal.

pub mod stack_table;
