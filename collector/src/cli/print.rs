//! Words for people; colours on a terminal only, which anstream sees to.

use anstream::eprintln;
use anstyle::{AnsiColor, Style};

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
