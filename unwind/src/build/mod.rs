//! Turn one executable into rows.
