//! The screen, out of the state. Plain letters and no line drawing, so that it is the same on every terminal; colours only where
//! they are wanted, and never as the only sign of anything.

use std::borrow::Cow;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::help;
use super::rows::{Fold, Key, Row, Sort};
use super::state::{State, View};
use crate::report::summary::ledger_text;
use crate::report::{share, thousands};

/// Smaller terminals get one line that says so.
const SMALLEST: (u16, u16) = (40, 9);
/// Lines above the list and below it.
const ABOVE: u16 = 3;
const BELOW: u16 = 3;
/// Columns of a number, and of a pid (the kernel's largest has seven digits).
const NUMBER: u16 = 7;
const PID: u16 = 9;
/// Of a process's name (the kernel's have 15 letters), with the gap behind it.
const COMM: u16 = 17;
/// Widest share of the line for a file's name, one part in so many.
const FILE_SHARE: u16 = 4;
const MOST_FOR_FILE: u16 = 32;

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) color: bool,
}

impl Theme {
    fn fine(self) -> Style {
        Style::new()
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn reversed(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn colored(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn warning(self) -> Style {
        self.colored(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn row(self, row: &Row) -> Style {
        if row.is_kernel { self.colored(Color::Cyan) } else { self.fine() }
    }
}

/// Draws everything; tells the state how many lines the list has.
pub(super) fn draw(frame: &mut Frame, state: &mut State, theme: Theme) {
    let area = frame.area();
    let mut page = Page { buffer: frame.buffer_mut(), area, theme };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        page.put(0, 0, area.width, &format!("at least {}x{}, please", SMALLEST.0, SMALLEST.1), theme.fine());
        return;
    }
    let height = area.height - ABOVE - BELOW;
    state.fit(height.into());
    page.title(state);
    page.tabs(state);
    if state.help {
        help::draw(state, height, |y, text| page.put(1, ABOVE - 1 + y, area.width - 1, text, theme.fine()));
    } else {
        page.header(state);
        page.list(state, height);
    }
    page.ledger(state);
    page.bottom(state);
}

struct Page<'frame> {
    buffer: &'frame mut Buffer,
    area: Rect,
    theme: Theme,
}

impl Page<'_> {
    /// Writes as much of a text as fits into `width` columns.
    fn put(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) {
        let width = width.min(self.area.width.saturating_sub(x));
        if y < self.area.height && width > 0 {
            self.buffer.set_stringn(self.area.x + x, self.area.y + y, text, width.into(), style);
        }
    }

    fn right(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) {
        let length = u16::try_from(text.len()).unwrap_or(width).min(width);
        self.put(x + width - length, y, length, text, style);
    }

    fn title(&mut self, state: &State) {
        let (facts, seconds) = (&state.facts, state.seconds());
        let covered = (state.merged.duration_ns + 500_000_000) / 1_000_000_000;
        let window = match covered + 1 {
            more if more > seconds + 2 => format!("last {covered} s: names take their time"),
            enough if enough >= seconds => format!("last {seconds} s"),
            _ => format!("last {covered} of {seconds} s"),
        };
        let cpus = if facts.cpus == 1 { "CPU" } else { "CPUs" };
        let mut text =
            format!("everflame top  {}  {} Hz on {} {cpus}  {window}", facts.host, facts.frequency_hz, facts.cpus);
        if !facts.target.is_empty() {
            text += &format!("  {}", facts.target);
        }
        self.put(0, 0, self.area.width, &text, self.theme.strong());
        if state.held.is_some() {
            self.right(0, 0, self.area.width, "  PAUSED", self.theme.warning());
        }
    }

    fn tabs(&mut self, state: &State) {
        let mut x = 0;
        for (number, view) in View::ALL.into_iter().enumerate() {
            let (text, style) = match view == state.view {
                true => (format!("[{} {}]", number + 1, view.name()), self.theme.strong()),
                false => (format!(" {} {} ", number + 1, view.name()), self.theme.fine()),
            };
            self.put(x, 1, self.area.width, &text, style);
            x += text.len() as u16;
        }
        let width = self.area.width.saturating_sub(x + 1);
        let only = shortened(&state.only_text(), width.into()).into_owned();
        self.put(x + 1, 1, width, &only, self.theme.colored(Color::Yellow));
    }

    /// Where a function's file begins.
    fn file_column(&self) -> u16 {
        self.area.width - (self.area.width / FILE_SHARE).min(MOST_FOR_FILE)
    }

    fn header(&mut self, state: &State) {
        let (y, style) = (ABOVE - 1, self.theme.reversed());
        self.put(0, y, self.area.width, &" ".repeat(self.area.width.into()), style);
        // A tree with `s` is in the order of totals, too.
        let sort = if state.view == View::Tree && state.sort == Sort::Own { Sort::Total } else { state.sort };
        let marked = |name: &str, by: Sort| if sort == by { format!("{name}*") } else { format!("{name} ") };
        match state.view {
            View::Processes => {
                let cpu = if sort == Sort::Name { "cpu " } else { "cpu*" };
                self.right(0, y, NUMBER, cpu, style);
                self.right(NUMBER, y, PID, "pid", style);
                self.put(NUMBER + PID + 1, y, COMM, &marked("name", Sort::Name), style);
                self.put(NUMBER + PID + 1 + COMM, y, self.area.width, "pod, container or unit", style);
            }
            View::Owners => {
                let cpu = if sort == Sort::Name { "cpu " } else { "cpu*" };
                self.right(0, y, NUMBER, cpu, style);
                self.right(NUMBER, y, PID + 3, "processes", style);
                self.put(NUMBER + PID + 4, y, self.area.width, &marked("pod, container or unit", Sort::Name), style);
            }
            View::Functions | View::Tree => {
                self.right(0, y, NUMBER, &marked("self", Sort::Own), style);
                self.right(NUMBER, y, NUMBER + 1, &marked("total", Sort::Total), style);
                let name = if state.view == View::Tree { "call tree" } else { "function" };
                self.put(2 * NUMBER + 2, y, self.area.width, &marked(name, Sort::Name), style);
                self.put(self.file_column(), y, self.area.width, "file", style);
            }
        }
    }

    fn list(&mut self, state: &State, height: u16) {
        if state.rows.is_empty() {
            let text = match (state.merged.duration_ns, state.filter.is_empty()) {
                (0, _) => "the first samples come in a second or two",
                (_, false) => "nothing has the filter's text in its name; Esc takes the filter back",
                (_, true) => "no samples in this time",
            };
            self.put(2, ABOVE + 1, self.area.width - 2, text, self.theme.fine());
            return;
        }
        for (number, row) in state.rows.iter().enumerate().skip(state.first).take(height.into()) {
            let y = ABOVE + (number - state.first) as u16;
            let mut style = self.theme.row(row);
            if number == state.cursor {
                style = self.theme.reversed();
                self.put(0, y, self.area.width, &" ".repeat(self.area.width.into()), style);
            }
            match state.view {
                View::Processes | View::Owners => self.process(state, row, y, style),
                View::Functions | View::Tree => self.function(state, row, y, style),
            }
        }
    }

    fn process(&mut self, state: &State, row: &Row, y: u16, style: Style) {
        self.right(0, y, NUMBER - 1, &percent(row.total_ns, state.merged.duration_ns), style);
        if let Key::Process(pid, _) = row.key {
            self.right(NUMBER, y, PID, &pid.to_string(), style);
            self.put(NUMBER + PID + 1, y, COMM - 1, &row.name, style);
            let x = NUMBER + PID + 1 + COMM;
            let width = self.area.width.saturating_sub(x);
            self.put(x, y, width, &shortened(&row.detail, width.into()), style);
        } else {
            self.right(NUMBER, y, PID + 3, &row.detail, style);
            let x = NUMBER + PID + 4;
            let width = self.area.width.saturating_sub(x);
            self.put(x, y, width, &shortened(&row.name, width.into()), style);
        }
    }

    fn function(&mut self, state: &State, row: &Row, y: u16, style: Style) {
        self.right(0, y, NUMBER - 1, &percent(row.own_ns, state.whole_ns), style);
        self.right(NUMBER, y, NUMBER, &percent(row.total_ns, state.whole_ns), style);
        let mut x = 2 * NUMBER + 2;
        let end = self.file_column() - 1;
        if state.view == View::Tree {
            // Deeper than half of the column everything is at the same place.
            x += row.level.min((end - x) / 2);
            let mark = match row.fold {
                Fold::Leaf => " ",
                Fold::Open => "-",
                Fold::Closed => "+",
            };
            self.put(x, y, 1, mark, style);
            x += 1;
        }
        let width = end.saturating_sub(x);
        self.put(x, y, width, &shortened(&row.name, width.into()), style);
        let file = self.file_column();
        let width = self.area.width - file;
        self.put(file, y, width, &shortened(&row.detail, width.into()), style);
    }

    /// What became of every hit of the timer.
    fn ledger(&mut self, state: &State) {
        let (merged, y) = (&state.merged, self.area.height - BELOW);
        let seconds = merged.duration_ns as f64 / 1e9;
        let of = |ledger: &crate::ledger::Ledger| ledger.dropped_total().saturating_add(ledger.undelivered);
        let (lost, lost_ever) = (of(&merged.ledger), of(&state.since_start));
        let rate = if seconds > 0.0 { (merged.ledger.recorded as f64 / seconds).round() as u64 } else { 0 };
        let mut text = format!("{} samples/s", thousands(rate));
        if let Some(named) = share(merged.named, merged.frames, 1) {
            text += &format!(", {named} named");
        }
        text += &format!(", {} lost ({} since the start)", thousands(lost), thousands(lost_ever));
        if seconds > 0.0 {
            let own = percent(merged.own_cpu_ns, merged.duration_ns);
            text += &format!(", itself {own} % CPU");
        }
        let style = if lost > 0 { self.theme.warning() } else { self.theme.fine() };
        self.put(0, y, self.area.width, &text, style);
        self.put(0, y + 1, self.area.width, &ledger_text(&merged.ledger), self.theme.fine());
    }

    fn bottom(&mut self, state: &State) {
        let y = self.area.height - 1;
        let text = if state.typing {
            format!("filter: {}_   (Enter keeps it, Esc takes it back)", state.filter)
        } else if state.cut > 0 {
            format!("{} stacks are cut short: the call tree has no more room; choose a process", thousands(state.cut))
        } else if !state.filter.is_empty() {
            format!("filter: {}   (/ changes it, Esc takes it back)", state.filter)
        } else if let Some(notice) = &state.notice {
            notice.clone()
        } else {
            "? help  q quit  1-4 view  Enter choose  Esc back  / filter  Space pause  w time".to_owned()
        };
        let style = if state.typing { self.theme.strong() } else { self.theme.colored(Color::Yellow) };
        self.put(0, y, self.area.width, &text, style);
    }
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1}", part as f64 * 100.0 / whole as f64)
}

/// Leaves out the middle of what is too long: names differ at their beginning and at their end. Other than ASCII is cut at its
/// end, by the terminal's own measure.
fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    const GAP: &str = "..";
    if text.len() <= width || !text.is_ascii() || width <= GAP.len() {
        return text.into();
    }
    let kept = width - GAP.len();
    let head = kept / 2;
    format!("{}{GAP}{}", &text[..head], &text[text.len() - (kept - head)..]).into()
}

#[cfg(test)]
mod tests {
    use super::{percent, shortened};

    #[test]
    fn what_is_too_long_loses_its_middle() {
        for (text, width, expected) in [
            ("short", 5, "short"),
            ("core::ptr::drop_in_place", 11, "core..place"),
            ("abcdef", 2, "abcdef"),
            ("ünïcödé", 4, "ünïcödé"),
        ] {
            assert_eq!(shortened(text, width), expected);
        }
        assert_eq!((percent(1, 3).as_str(), percent(1, 0).as_str()), ("33.3", "-"));
    }
}
