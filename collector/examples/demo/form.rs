//! Numbers as devices say them: registers in all their forms, decimals in text. Pure.
//!
//! This is the other end of the agent's decoding, written apart from it on purpose: the demo compares what comes out
//! of the API with what went in here.

/// How a number lies in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// A coil or discrete input.
    Bool,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Four decimal digits.
    Bcd16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 64 bits.
    U64,
    /// IEEE 754 single.
    F32,
    /// IEEE 754 double.
    F64,
}

/// Where the bytes of the big-endian number `ABCD` go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// As they are.
    Abcd,
    /// Swapped in every register.
    Badc,
    /// Registers reversed.
    Cdab,
    /// Both.
    Dcba,
}

impl Form {
    /// The registers for the number nearest to `value` that this form can say, and that number.
    pub(crate) fn encode(self, order: Order, value: f64) -> (Vec<u16>, f64) {
        // `as` saturates: what is too large becomes the largest.
        let whole = value.round();
        let (bytes, said) = match self {
            Self::Bool => return (vec![u16::from(value != 0.0)], f64::from(value != 0.0)),
            Self::U16 => ((whole as u16).to_be_bytes().to_vec(), f64::from(whole as u16)),
            Self::I16 => ((whole as i16).to_be_bytes().to_vec(), f64::from(whole as i16)),
            Self::Bcd16 => bcd((whole as u16).min(9_999)),
            Self::U32 => ((whole as u32).to_be_bytes().to_vec(), f64::from(whole as u32)),
            Self::I32 => ((whole as i32).to_be_bytes().to_vec(), f64::from(whole as i32)),
            Self::U64 => ((whole as u64).to_be_bytes().to_vec(), (whole as u64) as f64),
            Self::F32 => ((value as f32).to_be_bytes().to_vec(), f64::from(value as f32)),
            Self::F64 => (value.to_be_bytes().to_vec(), value),
        };
        (order.words(&bytes), said)
    }
}

fn bcd(number: u16) -> (Vec<u8>, f64) {
    let digit = |place: u16| (number / place % 10) as u8;
    (vec![digit(1_000) << 4 | digit(100), digit(10) << 4 | digit(1)], f64::from(number))
}

impl Order {
    fn words(self, bytes: &[u8]) -> Vec<u16> {
        let pairs = bytes.chunks_exact(2).map(|pair| {
            let pair = [pair[0], pair[1]];
            if matches!(self, Self::Badc | Self::Dcba) { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
        });
        if matches!(self, Self::Cdab | Self::Dcba) { pairs.rev().collect() } else { pairs.collect() }
    }
}

/// The decimal text nearest to `value` with so many places, and the number that it says.
pub(crate) fn decimal(value: f64, places: usize) -> (String, f64) {
    let text = format!("{value:.places$}");
    let said = text.parse().unwrap_or(value);
    (text, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: Form, order: Order, value: f64, words: &[u16], said: f64) {
        assert_eq!(form.encode(order, value), (words.to_vec(), said));
    }

    #[test]
    fn whole_numbers_are_rounded_and_limited_to_what_the_form_can_say() {
        check(Form::U16, Order::Abcd, 1_234.4, &[1_234], 1_234.0);
        check(Form::U16, Order::Badc, 1.0, &[0x0100], 1.0);
        check(Form::U16, Order::Abcd, -1.0, &[0], 0.0);
        check(Form::I16, Order::Abcd, -2.0, &[0xfffe], -2.0);
        check(Form::Bcd16, Order::Abcd, 873.2, &[0x0873], 873.0);
        check(Form::Bcd16, Order::Abcd, 12_000.0, &[0x9999], 9_999.0);
        check(Form::Bool, Order::Abcd, 1.0, &[1], 1.0);
    }

    #[test]
    fn the_order_of_bytes_is_as_its_name_says() {
        let number = f64::from(0x0102_0304);
        check(Form::U32, Order::Abcd, number, &[0x0102, 0x0304], number);
        check(Form::I32, Order::Badc, number, &[0x0201, 0x0403], number);
        check(Form::U32, Order::Cdab, number, &[0x0304, 0x0102], number);
        check(Form::I32, Order::Dcba, number, &[0x0403, 0x0201], number);
        check(Form::U64, Order::Cdab, 65_538.0, &[2, 1, 0, 0], 65_538.0);
    }

    #[test]
    fn floats_say_what_fits_into_them() {
        check(Form::F32, Order::Abcd, 12.5, &[0x4148, 0], 12.5);
        check(Form::F64, Order::Abcd, 0.1, &[0x3fb9, 0x9999, 0x9999, 0x999a], 0.1);
        assert_eq!(Form::F32.encode(Order::Cdab, 0.1).1, f64::from(0.1f32));
    }

    #[test]
    fn text_says_what_is_in_it() {
        assert_eq!(decimal(2.71959, 2), ("2.72".into(), 2.72));
    }
}
