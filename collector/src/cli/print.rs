//! Words for people; colours on a terminal only, which anstream sees to.

use anstream::eprintln;
use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table};

/// Something is wrong.
pub(super) const RED: Style = AnsiColor::Red.on_default().bold();
/// Something may be wrong.
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
/// All is well.
pub(super) const GREEN: Style = AnsiColor::Green.on_default();

/// On standard error.
pub(super) fn error(text: &str) {
    eprintln!("{RED}error{RED:#}: {text}");
}

/// A table without lines, as wide as the terminal.
pub(super) fn table<'a>(head: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head);
    table
}

/// `[#####-----]  50 %` of a part from 0 to 1.
pub(super) fn bar(part: f64) -> String {
    /// Characters of it.
    const WIDTH: usize = 30;
    let full = (part * WIDTH as f64) as usize;
    format!("[{}{}] {:3.0} %", "#".repeat(full), "-".repeat(WIDTH.saturating_sub(full)), part * 100.0)
}
