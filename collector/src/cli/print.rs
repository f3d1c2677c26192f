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

/// An error with its causes; what an error says of its cause by itself isn't said again.
pub(super) fn whole(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        said if said.contains(&cause) => text,
        said => format!("{said}: {cause}"),
    })
}

/// A table without lines, as wide as the terminal.
pub(super) fn table<'a>(head: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head);
    if let Some(width) = terminal() {
        table.set_width(width);
    }
    table
}

/// Columns of the terminal that standard output is.
fn terminal() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

/// Columns of the terminal; 80 when there is none.
pub(super) fn width() -> usize {
    terminal().map_or(80, usize::from)
}

/// At most so many characters of one line; a text that is longer ends in `…`.
pub(super) fn cut(text: &str, most: usize) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    match text.chars().nth(most) {
        None => text.chars().map(visible).collect(),
        Some(_) => text.chars().take(most.saturating_sub(1)).map(visible).chain(['…']).collect(),
    }
}

/// `[#####-----]  50 %` of a part from 0 to 1.
pub(super) fn bar(part: f64) -> String {
    /// Characters of it.
    const WIDTH: usize = 30;
    let full = (part * WIDTH as f64) as usize;
    format!("[{}{}] {:3.0} %", "#".repeat(full), "-".repeat(WIDTH.saturating_sub(full)), part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let gone = || anyhow::Error::new(std::io::Error::other("it is gone"));
        assert_eq!(whole(&gone()), "it is gone");
        assert_eq!(whole(&gone().context("a.csv").context("one of two")), "one of two: a.csv: it is gone");
        assert_eq!(whole(&gone().context("a.csv: it is gone; look elsewhere")), "a.csv: it is gone; look elsewhere");
    }

    #[test]
    fn a_long_text_ends_in_dots() {
        assert_eq!(cut("straße", 6), "straße");
        assert_eq!(cut("straßen", 6), "straß…");
        assert_eq!(cut("a\x1b[2Jb\n", 80), "a [2Jb ");
    }
}
