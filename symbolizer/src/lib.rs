//! (executable identity, address) to frames.
