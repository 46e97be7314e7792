//! Numbers for people: thousands, shares, values with their unit.

/// `1942` → `1 942`.
pub fn thousands(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A share as `99.97 %`, cut off, not rounded: only all is `100 %`. `None` of nothing.
pub fn share(part: u64, whole: u64, decimals: u32) -> Option<String> {
    if whole == 0 {
        return None;
    }
    let scale = 10_u128.pow(decimals);
    let scaled = u128::from(part) * 100 * scale / u128::from(whole);
    if part == whole {
        return Some("100 %".to_owned());
    }
    let (units, rest) = (scaled / scale, scaled % scale);
    if decimals == 0 {
        return Some(format!("{units} %"));
    }
    Some(format!("{units}.{rest:0width$} %", width = decimals as usize))
}

/// A value with its pprof unit, in a unit that gives a short number: `1.50 s`, `3.0 MiB`, `1 942 samples`.
pub fn value(value: i128, unit: &str) -> String {
    let time = [("h", 3_600e9), ("min", 60e9), ("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)];
    let memory = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)]
        .map(|(name, bits)| (name, (1_u64 << bits) as f64));
    let (value_in_base, units): (f64, &[(&str, f64)]) = match unit {
        "nanoseconds" | "ns" => (value as f64, &time),
        "microseconds" | "us" => (value as f64 * 1e3, &time),
        "milliseconds" | "ms" => (value as f64 * 1e6, &time),
        "seconds" | "s" => (value as f64 * 1e9, &time),
        "bytes" => (value as f64, &memory),
        "count" | "" => return thousands(value),
        _ => return format!("{} {unit}", thousands(value)),
    };
    if value == 0 {
        return "0".to_owned();
    }
    let fits = units.iter().find(|(_, size)| value_in_base.abs() >= *size).or(units.last());
    let Some((name, size)) = fits else { return thousands(value) };
    let number = value_in_base / size;
    if *size == 1.0 { format!("{number:.0} {name}") } else { format!("{number:.2} {name}") }
}

#[cfg(test)]
mod tests {
    use super::{share, thousands, value};

    #[test]
    fn thousands_are_set_apart() {
        let cases =
            [(0, "0"), (7, "7"), (999, "999"), (1_942, "1 942"), (1_234_567, "1 234 567"), (-12_345, "-12 345")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(thousands(u64::MAX), "18 446 744 073 709 551 615");
    }

    #[test]
    fn a_share_is_100_only_if_it_is_all() {
        let cases = [
            (0, 10, 2, Some("0.00 %")),
            (10, 10, 2, Some("100 %")),
            (99_999, 100_000, 2, Some("99.99 %")),
            (1, 3, 1, Some("33.3 %")),
            (1, 3, 0, Some("33 %")),
            (1, 1_000, 2, Some("0.10 %")),
            (0, 0, 2, None),
            (u64::MAX - 1, u64::MAX, 2, Some("99.99 %")),
        ];
        for (part, whole, decimals, text) in cases {
            assert_eq!(share(part, whole, decimals).as_deref(), text, "{part} of {whole}");
        }
    }

    #[test]
    fn values_are_shown_in_a_fitting_unit() {
        let cases = [
            (50_505_050, "nanoseconds", "50.51 ms"),
            (1_500_000_000, "nanoseconds", "1.50 s"),
            (999, "nanoseconds", "999 ns"),
            (90, "seconds", "1.50 min"),
            (3 << 20, "bytes", "3.00 MiB"),
            (512, "bytes", "512 B"),
            (-2_048, "bytes", "-2.00 KiB"),
            (1_942, "count", "1 942"),
            (12, "bananas", "12 bananas"),
            (0, "nanoseconds", "0"),
        ];
        for (number, unit, text) in cases {
            assert_eq!(value(number, unit), text);
        }
    }
}
