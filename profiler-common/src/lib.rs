//! The `repr(C)` types that cross the kernel boundary.
#![no_std]
