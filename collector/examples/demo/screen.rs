//! The terminal: a second screen that is redrawn in place, left as it was found.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal, Write};

/// Columns and lines of a terminal that doesn't say.
const CLASSIC: (usize, usize) = (80, 24);

/// A terminal while it shows the table.
pub(crate) struct Screen {
    colour: bool,
    /// As the keyboard was before.
    keyboard: Option<Termios>,
}

impl Screen {
    /// Takes the terminal; `None` when standard output is none, or one that can't be redrawn.
    pub(crate) fn take() -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if dumb || !io::stdout().is_terminal() {
            return None;
        }
        let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        let screen = Self { colour, keyboard: quiet_keyboard() };
        print(b"\x1b[?1049h\x1b[?25l"); // the other screen, no cursor
        Some(screen)
    }

    /// Whether colours are wanted.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Columns and lines, as they are now.
    pub(crate) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => CLASSIC,
        }
    }

    /// Draws over what is there. Nothing is blank in between: every line is overwritten and only its rest cleared,
    /// all in one write, which terminals that can (mode 2026) show at once.
    pub(crate) fn draw(&self, lines: &[String]) {
        let text = lines.join("\x1b[K\r\n");
        print(format!("\x1b[?2026h\x1b[H{text}\x1b[K\x1b[J\x1b[?2026l").as_bytes());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        print(b"\x1b[?25h\x1b[?1049l");
        if let Some(before) = &self.keyboard {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// Keeps keys from being written into the table; Ctrl-C still works.
fn quiet_keyboard() -> Option<Termios> {
    let before = tcgetattr(io::stdin()).ok()?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
    tcsetattr(io::stdin(), OptionalActions::Now, &quiet).ok()?;
    Some(before)
}

fn print(bytes: &[u8]) {
    // A terminal that is gone is told by SIGHUP.
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}
