//! Prints the rows of one ELF file, or those of an address range.
//!
//! `cargo run -p unwind --features build --example print-rows -- FILE [0xSTART 0xEND]`

use unwind::build::{Limits, rows_of_elf};
use unwind::rule::{Kind, RowRule};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("no file")?;
    let mut number = || arguments.next().map(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16));
    let (start, end) = (number().transpose()?.unwrap_or(0), number().transpose()?.unwrap_or(u64::MAX));
    let rows = rows_of_elf(&std::fs::read(path)?, &Limits::default())?;
    println!("{:?}", rows.stats);
    for row in rows.iter().filter(|row| (start..end).contains(&row.address)) {
        println!("{:#x} {}", row.address, text(row.rule));
    }
    Ok(())
}

fn text(rule: RowRule) -> String {
    let packed = match rule {
        RowRule::Packed(packed) => packed,
        RowRule::Escape(escape) => return format!("{escape:?}"),
    };
    let operand = packed.operand();
    let base = match packed.kind() {
        kind if kind == Kind::Sp as u8 => "sp",
        kind if kind == Kind::Fp as u8 => "fp",
        kind if kind == Kind::Plt as u8 => return format!("plt, from {operand} on"),
        kind if kind == Kind::End as u8 => return "outermost".into(),
        kind if kind == Kind::Signal as u8 => return "signal trampoline".into(),
        kind if kind == Kind::Unsupported as u8 => return "unsupported".into(),
        _ => return "-".into(),
    };
    let mut line = format!("cfa = {base} + {}", operand * 8);
    for (name, shift) in [("rbp", 32), ("rbx", 40), ("r12", 48)] {
        match (packed.0 >> shift) & 0xff {
            0 => {}
            slot => line.push_str(&format!(", {name} at cfa - {}", slot * 8)),
        }
    }
    line
}
