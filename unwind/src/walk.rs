//! One frame up.

/// Most user frames in one stack; deeper ones keep the leaf and end as truncated.
pub const MAX_USER_FRAMES: usize = 1024;
