//! The value column of one point: scaled integers where the resolution allows, else the doubles' own bits.

use super::BlockError;
use super::bits::{BitReader, BitWriter, Code, Sink, Tally, unzigzag, varint_bits, zigzag};

/// Largest power of ten that a double holds exactly.
pub(super) const EXPONENT_MAX: i8 = 22;
/// Largest scaled integer. Up to here scaling a decoded value again gives the same integer: the two roundings
/// together err by less than half.
const SCALED_MAX: f64 = (1u64 << 50) as f64;

fn power_of_ten(exponent: i8) -> f64 {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ];
    POWERS[usize::from(exponent.unsigned_abs().min(22))]
}

/// The multiple of 10^`exponent` nearest to `value`; `None` when it is too large for a scaled column.
pub(super) fn scale(value: f64, exponent: i8) -> Option<i64> {
    let power = power_of_ten(exponent);
    let scaled = if exponent < 0 { value * power } else { value / power }.round();
    (scaled.abs() <= SCALED_MAX).then_some(scaled as i64)
}

/// The double nearest to `multiple`·10^`exponent`: one correctly rounded operation on two exact numbers.
pub(super) fn unscale(multiple: i64, exponent: i8) -> f64 {
    let power = power_of_ten(exponent);
    if exponent < 0 { multiple as f64 / power } else { multiple as f64 * power }
}

/// How scaled integers are written: a base, then what each is off from the one before or from the base.
#[derive(Clone, Copy, Debug)]
pub(super) struct IntPlan {
    delta: bool,
    base: i64,
    code: Code,
}

impl IntPlan {
    /// The cheapest plan, and its bits.
    pub(super) fn fit(values: &[i64], packed: bool) -> (IntPlan, u64) {
        let plan = |delta: bool, base: i64| {
            let after = values.get(1..).unwrap_or_default();
            let residuals: Vec<u64> = match delta {
                true => values.iter().zip(after).map(|(before, value)| zigzag(value - before)).collect(),
                false => values.iter().map(|value| zigzag(value - base)).collect(),
            };
            let (code, bits) = Code::best(&residuals, packed);
            (IntPlan { delta, base, code }, bits + varint_bits(zigzag(base)))
        };
        let by_delta = plan(true, values.first().copied().unwrap_or(0));
        if values.len() < 3 {
            return by_delta;
        }
        let mut sorted = values.to_vec();
        let middle = sorted.len() / 2;
        let by_base = plan(false, *sorted.select_nth_unstable(middle).1);
        if by_base.1 < by_delta.1 { by_base } else { by_delta }
    }

    fn residual(&self, before: i64, value: i64) -> u64 {
        zigzag(value - if self.delta { before } else { self.base })
    }
}

/// Scaled integers while they gather, with the bits they take so far.
#[derive(Default)]
pub(super) struct Ints {
    pub(super) values: Vec<i64>,
    plan: Option<IntPlan>,
    pub(super) bits: u64,
}

impl Ints {
    /// The plan and the bits if `value` came too. Looks at all values only when their number is a power of two
    /// or the plan can't take the new one, which happens once.
    pub(super) fn with(&mut self, value: i64) -> (IntPlan, u64) {
        if let (Some(plan), Some(before)) = (self.plan, self.values.last()) {
            let residual = plan.residual(*before, value);
            if plan.code.takes(residual) && !self.values.len().is_power_of_two() {
                return (plan, self.bits + plan.code.cost(residual));
            }
        }
        self.values.push(value);
        let fitted = IntPlan::fit(&self.values, false);
        self.values.pop();
        fitted
    }

    /// The cheapest plan: never dearer than the one that the bits were counted by.
    pub(super) fn best_plan(&self) -> Option<IntPlan> {
        let (fitted, bits) = IntPlan::fit(&self.values, true);
        self.plan.map(|plan| if self.bits < bits { plan } else { fitted })
    }

    pub(super) fn push(&mut self, value: i64, (plan, bits): (IntPlan, u64)) {
        self.values.push(value);
        self.plan = Some(plan);
        self.bits = bits;
    }
}

pub(super) fn write_ints(values: &[i64], plan: &IntPlan, out: &mut BitWriter) {
    out.varint(zigzag(plan.base));
    if values.len() < 2 {
        return;
    }
    out.put(u64::from(plan.delta), 1);
    out.put(plan.code.number(), Code::BITS);
    let mut before = plan.base;
    for value in &values[usize::from(plan.delta)..] {
        plan.code.write(plan.residual(before, *value), out);
        before = *value;
    }
}

/// Appends `count` (at least one) values.
pub(super) fn read_ints(
    from: &mut BitReader<'_>,
    count: usize,
    exponent: i8,
    values: &mut Vec<f64>,
) -> Result<(), BlockError> {
    let check = |value: i64| match value.unsigned_abs() <= SCALED_MAX as u64 {
        true => Ok(value),
        false => Err(BlockError::Damaged("a scaled value is out of range")),
    };
    let base = check(unzigzag(from.varint()?))?;
    if count == 1 {
        values.push(unscale(base, exponent));
        return Ok(());
    }
    let delta = from.flag()?;
    let code = Code::read_number(from)?;
    if delta {
        values.push(unscale(base, exponent));
    }
    let mut before = base;
    for _ in usize::from(delta)..count {
        let residual = unzigzag(code.read(from)?);
        let value = check(residual.wrapping_add(if delta { before } else { base }))?;
        values.push(unscale(value, exponent));
        before = value;
    }
    Ok(())
}

/// Doubles by what differs from the one before: `0` the same; `10` and the bits of the last window;
/// `11`, six bits of leading zeros, six of length − 1, and the bits of this new window.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Xor {
    before: Option<u64>,
    leading: u32,
    length: u32, // of the window; 0 before the first
}

impl Xor {
    pub(super) fn write(&mut self, value: u64, sink: &mut impl Sink) {
        let Some(before) = self.before.replace(value) else {
            return sink.put(value, 64);
        };
        let differs = before ^ value;
        if differs == 0 {
            return sink.put(0, 1);
        }
        let leading = differs.leading_zeros();
        let length = 64 - leading - differs.trailing_zeros();
        let fits = leading >= self.leading && leading + length <= self.leading + self.length;
        if fits && self.length <= length + 12 {
            sink.put(0b10, 2);
        } else {
            (self.leading, self.length) = (leading, length);
            sink.put(0b11, 2);
            sink.put(u64::from(leading), 6);
            sink.put(u64::from(length - 1), 6);
        }
        sink.put(differs >> (64 - self.leading - self.length), self.length);
    }

    pub(super) fn read(&mut self, from: &mut BitReader<'_>) -> Result<u64, BlockError> {
        let value = match self.before {
            None => from.get(64)?,
            Some(before) if !from.flag()? => before,
            Some(before) => {
                if from.flag()? {
                    self.leading = from.get(6)? as u32;
                    self.length = from.get(6)? as u32 + 1;
                }
                if self.length == 0 || self.leading + self.length > 64 {
                    return Err(BlockError::Damaged("a window of bits is out of range"));
                }
                before ^ from.get(self.length)? << (64 - self.leading - self.length)
            }
        };
        self.before = Some(value);
        Ok(value)
    }
}

/// Doubles while they gather, with the bits they take so far.
#[derive(Default)]
pub(super) struct Floats {
    pub(super) values: Vec<f64>,
    xor: Xor,
    pub(super) bits: u64,
}

impl Floats {
    pub(super) fn with(&self, value: f64) -> (Xor, u64) {
        let (mut xor, mut tally) = (self.xor, Tally(self.bits));
        xor.write(value.to_bits(), &mut tally);
        (xor, tally.0)
    }

    pub(super) fn push(&mut self, value: f64, (xor, bits): (Xor, u64)) {
        self.values.push(value);
        self.xor = xor;
        self.bits = bits;
    }

    /// The same values as scaled integers, where that loses no bit: many sources send decimals without saying so.
    pub(super) fn as_decimals(&self) -> Option<(i8, Vec<i64>)> {
        (0..=6i8).map(|places| -places).find_map(|exponent| {
            let exact =
                |value: &f64| scale(*value, exponent).filter(|n| unscale(*n, exponent).to_bits() == value.to_bits());
            Some((exponent, self.values.iter().map(exact).collect::<Option<Vec<i64>>>()?))
        })
    }
}
