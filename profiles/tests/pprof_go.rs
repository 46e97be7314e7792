//! What the real `go tool pprof` makes of our profiles. Skipped, with the reason printed, where there is no Go toolchain; in continuous
//! integration (`CI` is set) that is a failure.
#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod pprof_batch;

use std::path::Path;
use std::process::Command;

use pprof_batch::{Builder, info, small_batch};
use profiles::profile::LocationKind;
use profiles::profile::pprof::{encode, to_gzip};
use unwind::end::End;

/// The output of `go tool pprof ARGUMENTS FILE`, and its messages.
fn go_pprof(arguments: &[&str], profile: &Path) -> Option<(String, String)> {
    let output = match Command::new("go").args(["tool", "pprof"]).args(arguments).arg(profile).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "can't be skipped in CI: `go tool pprof`: {error}");
            eprintln!("skipped: `go tool pprof` can't be run here: {error}");
            return None;
        }
    };
    let (out, messages) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "go tool pprof {arguments:?}: {messages}");
    Some((out, messages))
}

fn written(batch: &profiles::profile::Batch) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.pb.gz");
    std::fs::write(&path, to_gzip(&encode(batch, &info()).unwrap())).unwrap();
    (folder, path)
}

#[test]
fn top_shows_names_inlining_and_the_main_binary() {
    let (_folder, path) = written(&small_batch());
    let Some((top, _)) = go_pprof(&["-symbolize=none", "-top"], &path) else { return };
    let rows: Vec<&str> = top.lines().map(str::trim).collect();
    for row in [
        "File: server",
        "Build ID: bb22",
        "Type: cpu",
        "Duration: 10s, Total samples = 50.51ms ( 0.51%)",
        "30.30ms 60.00% 60.00%    30.30ms 60.00%  do_syscall_64",
        "10.10ms 20.00%   100%    30.30ms 60.00%  server::inner (inline)",
        "0     0%   100%    10.10ms 20.00%  [truncated]",
    ] {
        assert!(rows.contains(&row), "no row {row:?} in\n{top}");
    }
}

#[test]
fn tag_filters_take_the_numeric_labels() {
    let (_folder, path) = written(&small_batch());
    for (filter, total) in [
        ("-tagfocus=pid=7", "10.10ms"),
        ("-tagfocus=thread id=101", "20.20ms"),
        ("-tagfocus=unwind=bad_read", "10.10ms"),
    ] {
        let Some((top, _)) = go_pprof(&["-symbolize=none", "-top", filter], &path) else { return };
        assert!(top.contains(&format!("Showing nodes accounting for {total},")), "{filter}:\n{top}");
    }
}

/// A function whose address in the file is known from running it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pprof_go_test_landmark() -> usize {
    std::hint::black_box(pprof_go_test_landmark as *const () as usize)
}

/// Where this test's own executable was loaded: the start of the mapping with file offset 0.
fn load_base(executable: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with(executable.to_str().unwrap())).unwrap();
    usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
}

#[test]
fn a_mapping_without_names_is_named_from_the_local_file_and_the_kernel_and_vdso_do_not_disturb() {
    let executable = std::env::current_exe().unwrap().canonicalize().unwrap();
    let address = pprof_go_test_landmark() - load_base(&executable);
    let mut builder = Builder::new();
    let kernel = builder.mapping("[kernel.kallsyms]", "");
    let vdso = builder.mapping("[vdso]", "");
    let ours = builder.mapping(executable.to_str().unwrap(), "");
    let system_call = builder.function("do_syscall_64", "do_syscall_64", "", 0);
    let in_kernel = builder.location(LocationKind::Kernel, Some(kernel), 0x40, &[(system_call, 0)]);
    let in_vdso = builder.location(LocationKind::Vdso, Some(vdso), 0xa30, &[]);
    let unnamed = builder.location(LocationKind::Native, Some(ours), address as u64, &[]);
    let stack = builder.stack(&[in_kernel, in_vdso, unnamed]);
    let process = builder.process(1, "test", executable.to_str().unwrap());
    builder.sample(process, 1, "test", stack, End::Complete, 1);

    let (_folder, path) = written(&builder.0);
    let Some((raw, messages)) = go_pprof(&["-symbolize=local", "-raw"], &path) else { return };
    let place = format!("{address:#x} M=1 pprof_go_test_landmark ");
    assert!(raw.contains(&place), "no {place:?} in\n{raw}\n{messages}");
    assert!(raw.contains("0x40 M=2 do_syscall_64 :0:0"), "{raw}");
}
