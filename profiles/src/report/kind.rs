//! What sort of code a place is, from what any pprof profile says: the mapping's name and the source file's.
//!
//! pprof has no field for it. The mapping decides first, since it knows what ran; the source file tells languages apart.

use crate::profile::LocationKind;

/// Where code was mapped from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// A whole path, empty if there is no mapping.
    pub(super) path: &'a str,
    /// Code made at run time has none; a program that is run from memory (`memfd_create`) has one like any other.
    pub(super) has_build_id: bool,
}

/// The kind of a place in code of this origin, whose function is `name` (empty if unknown) in `file`.
pub(super) fn kind(origin: Origin<'_>, name: &str, file: &str) -> LocationKind {
    let mapping = origin.path;
    match mapping {
        "" => without_mapping(name, file),
        "[vdso]" | "[vsyscall]" => LocationKind::Vdso,
        "[bpf]" => LocationKind::Bpf,
        _ if mapping.starts_with("linux-vdso") => LocationKind::Vdso,
        _ if mapping.starts_with("[kernel.kallsyms]") || mapping == "[kernel]" => LocationKind::Kernel,
        _ if is_module(mapping) => LocationKind::KernelModule,
        _ if is_anonymous(mapping) && !origin.has_build_id => by_language(file).unwrap_or(LocationKind::Jit),
        _ => by_language(file).unwrap_or(LocationKind::Native),
    }
}

fn without_mapping(name: &str, file: &str) -> LocationKind {
    match by_language(file) {
        Some(kind) => kind,
        None if name.starts_with('[') && name.ends_with(']') => LocationKind::Marker,
        None if name.is_empty() => LocationKind::Unknown,
        // Named, by whatever means: profiles without mappings are common (written by a language's own run time).
        None => LocationKind::Native,
    }
}

/// `[ext4]` is how perf and kallsyms write a module; the other things in brackets are no modules.
fn is_module(mapping: &str) -> bool {
    let path = mapping.trim_end_matches(".zst").trim_end_matches(".xz").trim_end_matches(".gz");
    let bracketed = mapping.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    path.ends_with(".ko") || bracketed.is_some_and(|name| !matches!(name, "heap" | "stack") && !is_anonymous(mapping))
}

/// Memory without a file behind it, in which code was made at run time.
fn is_anonymous(mapping: &str) -> bool {
    let prefixes = ["[anon", "//anon", "/memfd:", "/dev/zero", "/SYSV", "/tmp/perf-", "[heap", "[stack"];
    prefixes.iter().any(|prefix| mapping.starts_with(prefix))
}

fn by_language(file: &str) -> Option<LocationKind> {
    let (_, suffix) = file.rsplit_once('.')?;
    match suffix {
        "go" => Some(LocationKind::Go),
        "py" | "pyx" | "rb" | "php" | "pl" | "lua" | "js" | "mjs" | "cjs" | "ts" | "java" | "kt" | "scala" => {
            Some(LocationKind::Interpreter)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Origin, kind};
    use crate::profile::LocationKind::{self, *};

    #[test]
    fn kinds_follow_from_mapping_and_source_file() {
        let cases: &[(&str, &str, &str, LocationKind)] = &[
            ("[kernel.kallsyms]", "do_syscall_64", "", Kernel),
            ("[kernel.kallsyms]_text", "do_syscall_64", "", Kernel),
            ("[ext4]", "ext4_read", "", KernelModule),
            ("/lib/modules/6.1/kernel/fs/ext4.ko.xz", "ext4_read", "", KernelModule),
            ("[bpf]", "bpf_prog_1", "", Bpf),
            ("[vdso]", "", "", Vdso),
            ("linux-vdso.so.1", "clock_gettime", "", Vdso),
            ("[anon]", "", "", Jit),
            ("[anon:v8]", "LazyCompile:~f", "/app/f.js", Interpreter),
            ("/memfd:doublemapper (deleted)", "m", "", Jit),
            ("[heap]", "", "", Jit),
            ("/usr/bin/kubelet", "main.main", "/src/main.go", Go),
            ("/usr/bin/server", "main", "src/main.rs", Native),
            ("/usr/bin/server", "", "", Native),
            ("/usr/bin/python3", "run", "app.py", Interpreter),
            ("", "run", "app.py", Interpreter),
            ("", "[truncated]", "", Marker),
            ("", "", "", Unknown),
            ("", "main.main", "/src/main.go", Go),
            ("", "main", "", Native),
        ];
        for (mapping, name, file, expected) in cases {
            let origin = Origin { path: mapping, has_build_id: false };
            assert_eq!(kind(origin, name, file), *expected, "{mapping:?} {name:?} {file:?}");
        }
    }

    #[test]
    fn a_program_in_memory_is_native_and_code_made_there_is_not() {
        for (has_build_id, file, expected) in [(true, "main.rs", Native), (true, "main.go", Go), (false, "", Jit)] {
            let origin = Origin { path: "/memfd:sealed", has_build_id };
            assert_eq!(kind(origin, "main", file), expected, "{has_build_id} {file}");
        }
    }
}
