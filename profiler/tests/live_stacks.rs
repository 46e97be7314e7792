//! Complete and right: the user stacks of programs built without frame pointers reach their entry, through exactly the
//! functions that are there.
//!
//! Every sample since the program said `ready` counts, also the first ones, which the kernel can't finish. Start-up is over
//! by then. `EVERFLAME_LONG=1` records ten times as long and asks 99.9 % of each program instead of the whole group.

mod live;

use fixtures::expected::{self, Expected};
use fixtures::{Flavour, build_or_skip};
use live::{Running, Seen, Shares};
use unwind::end::End;

/// What a program's stacks must be.
enum Right {
    Exactly(Expected),
    /// For what inlining and libraries make too varied for one list.
    When(fn(&Seen) -> bool),
}

struct Case {
    name: &'static str,
    flavour: Flavour,
    arguments: &'static [&'static str],
    right: Right,
}

fn case(name: &'static str, flavour: Flavour, right: Right) -> Case {
    Case { name, flavour, arguments: &[], right }
}

fn exactly(name: &'static str, flavour: Flavour, expected: Expected) -> Case {
    case(name, flavour, Right::Exactly(expected))
}

/// In the order of the stack, whatever lies between them.
fn contains_in_order(user: &[String], wanted: &[&str]) -> bool {
    let mut rest = user.iter();
    wanted.iter().all(|wanted| rest.any(|name| name == wanted))
}

/// main, run_all, then either the chain of throwing frames from its beginning, or the work with its inlined functions. The
/// compiler makes a jump of the last call of run_all, so work<double> stands right below main.
fn is_exceptions(seen: &Seen) -> bool {
    let Some(main) = seen.user.iter().position(|name| name == "main" || name == "main.cold") else { return false };
    let below: Vec<&str> = seen.user[main + 1..].iter().map(String::as_str).collect();
    let below = below.strip_prefix(&["shapes::run_all"]).unwrap_or(&below);
    let right = match below {
        ["shapes::work<int>" | "shapes::work<double>", inlined @ ..] => {
            inlined.iter().all(|name| name.starts_with("shapes::inlined_twice<") || *name == "shapes::Counter::add")
        }
        // Until it throws, the chain is shorter; then it is whole, with the C++ library's functions below.
        ["shapes::throw_from<12>", ..] => {
            let thrown = below.iter().take_while(|name| name.starts_with("shapes::throw_from<")).count();
            let chain = (0..thrown).all(|at| below[at] == format!("shapes::throw_from<{}>", 12_usize.wrapping_sub(at)));
            chain && (thrown == 13 || thrown == below.len())
        }
        _ => below.iter().all(|name| !name.starts_with("shapes::")),
    };
    seen.user[0] == "_start" && right
}

/// A named thread's worker with its fold, and nothing below that is not inlined into it.
fn is_generics(seen: &Seen) -> bool {
    let last = |part: &str| seen.user.iter().rposition(|name| name.contains(part));
    let (Some(worker), Some(fold)) = (last("generics::worker"), last("generics::fold")) else {
        // Between two calls of fold.
        return last("generics::worker").is_some();
    };
    worker < fold
}

fn is_plugin(seen: &Seen) -> bool {
    contains_in_order(&seen.user, &["main", "load_and_run"]) || contains_in_order(&seen.user, &["_start", "main"])
}

fn is_plt(seen: &Seen) -> bool {
    contains_in_order(&seen.user, &["_start", "main"])
        && (seen.user.len() < 5 || contains_in_order(&seen.user, &["main", "call_library"]))
}

/// Starts all, records them together, prints a row for each, and asks for 99.9 % of the group (of each in a long run).
fn check(cases: &[Case]) {
    check_for(cases, 999);
}

/// [`check`] with another share of the group, in a thousand.
fn check_for(cases: &[Case], per_mille: u64) {
    let _alone = live::alone();
    // All are built before the first one takes the machine's time.
    let files: Vec<_> = cases.iter().map(|case| build_or_skip(case.name, case.flavour)).collect();
    let start = |(case, file): (_, Option<std::path::PathBuf>)| {
        let case: &Case = case;
        Some((case, Running::fixture(&file?, case.arguments)))
    };
    let running: Vec<(&Case, Running)> = cases.iter().zip(files).filter_map(start).collect();
    let pids: Vec<u32> = running.iter().map(|(_, running)| running.pid()).collect();
    let Some(recorded) = live::record(&pids, live::seconds(3, 30)) else { return };
    let mut sum = Shares::default();
    let mut poor = Vec::new();
    for (case, running) in &running {
        let samples = recorded.samples(running.pid());
        let (right, wrong) = match &case.right {
            Right::Exactly(expected) => {
                let verdict = recorded.judge(running.pid(), expected);
                // Complete and without any of the program's functions: the Go runtime's own threads.
                (verdict.right + verdict.before, verdict.text(5))
            }
            Right::When(test) => {
                let wrong: Vec<Seen> = samples.iter().filter(|seen| !test(seen)).cloned().collect();
                ((samples.len() - wrong.len()) as u64, live::folded(&wrong))
            }
        };
        let shares = Shares::of(&samples, right);
        let name = format!("{}{} {}", case.name, case.flavour.suffix(), case.arguments.join(" "));
        println!("{}{}", shares.row(&name), live::ends(&samples));
        if right != shares.samples {
            println!("    {wrong}");
        }
        // Short runs on a busy machine hold a larger share of first samples.
        let of_each = if live::long() { per_mille } else { per_mille.min(950) };
        let short_of = |part: u64| part * 1000 < shares.samples * of_each;
        if shares.samples == 0 || short_of(shares.complete) || short_of(right) {
            poor.push(name);
        }
        sum.add(shares);
    }
    println!("{}", sum.row("all"));
    assert_eq!(poor, Vec::<String>::new(), "programs with too many incomplete or wrong stacks (or no samples at all)");
    let per_mille = if live::long() { per_mille } else { per_mille.min(970) };
    let short_of = |part: u64| part * 1000 < sum.samples * per_mille;
    assert!(
        !short_of(sum.complete) && !short_of(sum.right),
        "less than {per_mille} ‰ of the group: {}",
        sum.row("all")
    );
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_chain_of_functions_is_seen_whole_however_it_was_linked() {
    check(&Flavour::ALL.map(|flavour| match flavour {
        // Without section headers there are no names, but all frames: _start, two of libc, main, 20 levels, burn.
        Flavour::NoSectionHeaders => case("chain", flavour, Right::When(|seen| seen.user.len() == 25)),
        _ => exactly("chain", flavour, expected::chain()),
    }));
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn recursion_is_seen_whole_to_a_thousand_frames() {
    let deep = |arguments: &'static [&'static str], depth: usize| Case {
        name: "recursion",
        flavour: Flavour::OmitFp,
        arguments,
        right: Right::Exactly(expected::recursion(depth)),
    };
    check(&[
        deep(&["10", "600"], 10),
        deep(&["100", "600"], 100),
        deep(&["500", "600"], 500),
        deep(&["1000", "600"], 1000),
    ]);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn unusual_frames_do_not_break_a_stack() {
    let mut cases = Vec::new();
    for flavour in [Flavour::OmitFp, Flavour::Static, Flavour::StaticPie] {
        cases.push(exactly("realigned", flavour, expected::realigned()));
        cases.push(exactly("noreturn", flavour, expected::noreturn()));
    }
    check(&cases);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn library_and_kernel_code_is_left_towards_the_program() {
    let mut cases = Vec::new();
    for flavour in [Flavour::OmitFp, Flavour::Static] {
        cases.push(exactly("vdso", flavour, expected::vdso()));
        cases.push(exactly("syscalls", flavour, expected::syscalls()));
    }
    cases.push(case("plugin", Flavour::OmitFp, Right::When(is_plugin)));
    cases.push(case("plt", Flavour::OmitFp, Right::When(is_plt)));
    check(&cases);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn threads_of_c_cpp_rust_and_go_are_seen_from_their_entry() {
    check(&[
        Case { arguments: &["2", "600"], ..exactly("threads", Flavour::OmitFp, expected::threads()) },
        Case { arguments: &["2", "600"], ..exactly("threads", Flavour::Static, expected::threads()) },
        case("exceptions", Flavour::OmitFp, Right::When(is_exceptions)),
        case("exceptions", Flavour::StaticPie, Right::When(is_exceptions)),
        case("generics", Flavour::OmitFp, Right::When(is_generics)),
        case("generics", Flavour::Static, Right::When(is_generics)),
        exactly("goroutines", Flavour::Static, expected::goroutines()),
    ]);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_hundred_threads_in_line_do_not_keep_the_engine_from_its_turn() {
    // Not all: how long a busy machine lets the engine wait is not in its hands.
    check_for(&[exactly("threads", Flavour::OmitFp, expected::threads())], 950);
}

/// The handler's frames, the trampoline, and what was interrupted; the first 0.8 s have no signal.
#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_signal_handler_on_a_stack_of_its_own_is_seen_with_what_it_interrupted() {
    let _alone = live::alone();
    for flavour in [Flavour::OmitFp, Flavour::Static] {
        let Some(file) = build_or_skip("signal", flavour) else { return };
        let running = Running::fixture(&file, &[]);
        let Some(recorded) = live::record(&[running.pid()], live::seconds(4, 30)) else { return };
        let samples = recorded.samples(running.pid());
        let handler: Vec<Seen> =
            samples.iter().filter(|seen| seen.user.iter().any(|name| name == "handler_spin")).cloned().collect();
        // The trampoline between the two halves has a name only where the C library has its symbols.
        let right = handler.iter().filter(|seen| {
            let main = seen.user.iter().position(|name| name == "main").unwrap_or(0);
            let below: Vec<&str> = seen.user[main..].iter().map(String::as_str).collect();
            let halves = below.split_first_chunk::<4>().zip(below.split_last_chunk::<2>());
            let is_right = halves.is_some_and(|((interrupted, _), (_, handler))| {
                *interrupted == ["main", "interrupted_1", "interrupted_2", "interrupted_spin"]
                    && *handler == ["on_signal", "handler_spin"]
            });
            main > 0 && below.len() == 7 && is_right
        });
        let shares = Shares::of(&handler, right.count() as u64);
        println!("{}{}", shares.row("signal"), live::ends(&handler));
        assert!(shares.samples > 100, "the handler runs for most of the time: {} samples", shares.samples);
        let allowed_per_mille = if live::long() { 1 } else { 20 };
        let wrong = shares.samples - shares.right;
        assert!(wrong * 1000 <= shares.samples * allowed_per_mille, "{}", live::folded(&handler));
    }
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_kernel_mode_sample_has_both_halves() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("syscalls", Flavour::OmitFp) else { return };
    let running = Running::fixture(&file, &[]);
    let Some(recorded) = live::record(&[running.pid()], live::seconds(2, 20)) else { return };
    let samples = recorded.samples(running.pid());
    let in_kernel: Vec<&Seen> = samples.iter().filter(|seen| seen.kernel_frames > 0).collect();
    let whole = in_kernel
        .iter()
        .filter(|seen| {
            seen.end == End::Complete
                && expected::syscalls().holds(&seen.user.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .count();
    println!(
        "{} of {} samples hit the kernel, {whole} of them with the whole user stack",
        in_kernel.len(),
        samples.len()
    );
    assert!(in_kernel.len() * 2 > samples.len(), "a loop of read() is mostly in the kernel");
    let allowed_per_mille = if live::long() { 1 } else { 20 };
    assert!((in_kernel.len() - whole) * 1000 <= in_kernel.len() * allowed_per_mille);
}
