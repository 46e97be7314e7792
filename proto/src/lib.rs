//! `profile.proto` of pprof as prost types, and pprof's own validity check.
