//! The binary `everflame`.
fn main() {}
