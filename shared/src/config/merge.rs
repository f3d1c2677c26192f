//! Several TOML texts as one, with spans as if they lay one after the other with one byte between.

use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

/// Why texts don't make one.
pub(super) enum Mistake {
    /// A text is no TOML.
    Syntax(Range<usize>, String),
    /// Two texts say the same.
    Twice { key: String, first: Range<usize>, second: Range<usize> },
}

/// What was read so far.
#[derive(Default)]
pub(super) struct Merged<'i> {
    root: DeTable<'i>,
    bytes: usize,
}

impl<'i> Merged<'i> {
    /// Adds the next text.
    pub(super) fn add(&mut self, text: &'i str) -> Result<(), Mistake> {
        let base = self.bytes;
        self.bytes += text.len() + 1;
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            Mistake::Syntax(span.start + base..span.end + base, error.message().into())
        })?;
        merge(&mut self.root, shift_table(table.into_inner(), base), "")
    }

    /// Where a dotted key stands, or as much of it as there is.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        let (mut table, mut found, mut parts) = (&self.root, None, key.split('.'));
        while let Some(part) = parts.next() {
            let Some((name, value)) = table.get_key_value(part) else { break };
            let inside = match value.get_ref() {
                DeValue::Array(all) if of_tables(all) && !all.is_empty() => {
                    let Some(one) = parts.next().and_then(|part| all.iter().find(|one| is_called(one, part))) else {
                        break;
                    };
                    found = Some(one.span());
                    one
                }
                _ => {
                    found = Some(name.span());
                    value
                }
            };
            let DeValue::Table(inner) = inside.get_ref() else { break };
            table = inner;
        }
        found
    }

    pub(super) fn into_deserializer(self) -> Deserializer<'i> {
        // The whole has no place of its own: a mistake there (a missing key) shall not name the first line.
        Deserializer::from(Spanned::new(0..0, self.root))
    }
}

fn shifted<T, U>(value: Spanned<T>, base: usize, inner: impl FnOnce(T) -> U) -> Spanned<U> {
    let span = value.span();
    Spanned::new(span.start + base..span.end + base, inner(value.into_inner()))
}

fn shift_table(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    let shift = |(key, value)| (shifted(key, base, |key| key), shifted(value, base, |value| shift(value, base)));
    table.into_iter().map(shift).collect()
}

fn shift(value: DeValue<'_>, base: usize) -> DeValue<'_> {
    match value {
        DeValue::Table(table) => DeValue::Table(shift_table(table, base)),
        DeValue::Array(array) => {
            let shift = |value| shifted(value, base, |value| shift(value, base));
            DeValue::Array(array.into_iter().map(shift).collect::<DeArray<'_>>())
        }
        other => other,
    }
}

fn merge<'i>(into: &mut DeTable<'i>, from: DeTable<'i>, prefix: &str) -> Result<(), Mistake> {
    for (key, value) in from {
        let Some(held) = into.get_mut(&key) else {
            into.insert(key, value);
            continue;
        };
        let path = format!("{prefix}{}", key.get_ref());
        let twice = Mistake::Twice { key: path.clone(), first: held.span(), second: key.span() };
        match (held.get_mut(), value.into_inner()) {
            (DeValue::Table(held), DeValue::Table(more)) => merge(held, more, &format!("{path}."))?,
            (DeValue::Array(held), DeValue::Array(more)) if of_tables(held) && of_tables(&more) => {
                for value in more {
                    held.push(value);
                }
            }
            _ => return Err(twice),
        }
    }
    Ok(())
}

fn is_called(value: &Spanned<DeValue<'_>>, name: &str) -> bool {
    let DeValue::Table(table) = value.get_ref() else { return false };
    let says = |key: &str| table.get(key).is_some_and(|value| value.get_ref().as_str() == Some(name));
    says("name") || says("topic")
}

fn of_tables(array: &DeArray<'_>) -> bool {
    array.iter().all(|value| value.get_ref().is_table())
}
