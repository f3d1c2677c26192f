//! Quotes around cells: where a row ends that has some, and whether one was left open, which makes rows a part of a cell.

/// Lines that a cell may go over.
pub(super) const LINES_MAX: usize = 10;
const QUOTE: u8 = b'"';

/// Where in a row it is, as the reader of rows sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before a cell.
    Start,
    /// In a cell without quotes, where a quote is a sign like others.
    Plain,
    /// In a cell with quotes.
    Quoted,
    /// Behind a quote in such a cell: it ends there, or the quote is written twice.
    Ends,
}

impl State {
    fn then(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (State::Start | State::Ends, QUOTE) => State::Quoted,
            (State::Quoted, QUOTE) => State::Ends,
            (State::Quoted, _) => State::Quoted,
            (_, b'\n' | b'\r') => State::Start,
            (_, byte) if byte == delimiter => State::Start,
            _ => State::Plain,
        }
    }
}

/// Follows a file line by line.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    delimiter: u8,
    state: State,
    /// Lines that the row has so far.
    lines: usize,
}

impl Rows {
    /// Of a file with this between its columns.
    #[must_use]
    pub fn new(delimiter: u8) -> Self {
        Self { delimiter, state: State::Start, lines: 0 }
    }

    /// Whether a row ends with this line. One that goes over too many is ended, too: whoever reads it says what is wrong.
    pub fn end_with(&mut self, line: &[u8]) -> bool {
        if self.state == State::Quoted || line.contains(&QUOTE) {
            self.state = line.iter().fold(self.state, |state, byte| state.then(*byte, self.delimiter));
        }
        self.lines += 1;
        let ends = self.state != State::Quoted || self.lines > LINES_MAX;
        if ends {
            *self = Self::new(self.delimiter);
        }
        ends
    }
}

/// A cell whose quotes aren't right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Torn {
    /// Lines of the row before the one in which it begins.
    pub(super) lines_before: u64,
    /// Which of the row's cells, from 0.
    pub(super) cell: usize,
    /// What is wrong.
    pub(super) why: String,
    /// Whether other rows may have become a part of it.
    pub(super) swallows: bool,
}

/// A cell of a row, one of so many, whose quotes aren't right: the first that swallows others, or else the first.
pub(super) fn torn(row: &str, delimiter: u8, cells: usize) -> Option<Torn> {
    let (mut state, mut line, mut cell) = (State::Start, 0, 0);
    // Of the cell in quotes: the line where it begins, and how many delimiters are in it.
    let (mut begins, mut within) = (0, 0);
    let torn = |swallows, begins: usize, cell, why| Torn { lines_before: begins as u64, cell, why, swallows };
    let mut unclean = None;
    for byte in row.bytes().chain([b'\n']) {
        let before = state;
        state = before.then(byte, delimiter);
        match (before, state) {
            (State::Start, State::Quoted) => (begins, within) = (line, 0),
            (State::Quoted, State::Quoted) if byte == delimiter => within += 1,
            (State::Ends, State::Plain) if line == begins => {
                let why = "something stands behind the closing quote; a quote within a cell is written twice";
                unclean.get_or_insert_with(|| torn(false, begins, cell, why.to_owned()));
            }
            (State::Ends, State::Plain | State::Start) => {
                let further = line - begins;
                if further > 0 && (state == State::Plain || within + 1 >= cells || further >= LINES_MAX) {
                    let why =
                        format!("a quote is opened here and closed {further} lines further; close it, or take it out");
                    return Some(torn(true, begins, cell, why));
                }
            }
            _ => {}
        }
        line += usize::from(byte == b'\n');
        cell += usize::from(state == State::Start && byte == delimiter);
    }
    let why = "a quote is opened here and isn't closed; close it, or take it out";
    if state == State::Quoted { Some(torn(true, begins, cell, why.into())) } else { unclean }
}
