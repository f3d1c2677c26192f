//! A moment as PostgreSQL's `timestamptz`: microseconds on both sides, so that nothing is rounded.

use shared::reading::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// 2000-01-01, from where PostgreSQL counts, by our own count.
const EPOCH: i64 = 946_684_800_000_000;
/// The first moment that can be stored: 0001-01-01. Beyond these two neither calendars of most languages nor other
/// databases follow.
pub(super) const FIRST: Timestamp = Timestamp(-62_135_596_800_000_000);
/// The moment after the last that can be stored: 10000-01-01.
pub(super) const END: Timestamp = Timestamp(253_402_300_800_000_000);

/// Whether a reading of this moment can be stored.
pub(super) fn is_storable(at: Timestamp) -> bool {
    (FIRST..END).contains(&at)
}

/// A moment for a `timestamptz`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct PgTime(pub Timestamp);

impl PgTime {
    /// The end of a stretch that is asked for: nothing is stored beyond, so nothing is missed.
    pub(super) fn bounded(at: Timestamp) -> Self {
        Self(at.clamp(FIRST, END))
    }

    /// As it is sent. Only for moments within bounds.
    pub(super) fn to_wire(self) -> [u8; 8] {
        self.0.0.saturating_sub(EPOCH).to_be_bytes()
    }
}

impl Type<Postgres> for PgTime {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for PgTime {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for PgTime {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.to_wire());
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for PgTime {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a timestamp came as text".into());
        }
        let bytes: [u8; 8] = value.as_bytes()?.try_into()?;
        Ok(Self(Timestamp(i64::from_be_bytes(bytes).checked_add(EPOCH).ok_or("a timestamp is out of range")?)))
    }
}
