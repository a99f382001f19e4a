//! The small change of ledgers and traces: numbers of as few bytes as they need.

/// Appends a number, seven bits a byte, the lowest first.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a difference; small ones of either sign are short. Wraps, so that any two numbers have
/// one.
pub(crate) fn put_difference(out: &mut Vec<u8>, value: i64, from: i64) {
    let d = value.wrapping_sub(from);
    put(out, ((d << 1) ^ (d >> 63)).cast_unsigned());
}

/// Takes pieces off the front.
#[derive(Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn difference(&mut self, from: i64) -> Option<i64> {
        let z = self.number()?;
        Some(from.wrapping_add((z >> 1).cast_signed() ^ -((z & 1).cast_signed())))
    }

    pub(crate) fn number32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let length = usize::from(self.u8()?);
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_differences_are_read_as_they_were_written(
            n in any::<u64>(), shift in 0_u32..64, value in any::<i64>(), from in any::<i64>(),
        ) {
            let mut out = Vec::new();
            put(&mut out, n >> shift);
            put_difference(&mut out, value, from);
            let mut bytes = Bytes(&out);
            prop_assert_eq!(bytes.number(), Some(n >> shift));
            prop_assert_eq!(bytes.difference(from), Some(value));
            prop_assert!(bytes.0.is_empty());
        }

        #[test]
        fn any_bytes_are_a_number_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let mut rest = Bytes(&bytes);
            if rest.number().is_some() {
                prop_assert!(rest.0.len() < bytes.len());
            }
        }
    }

    #[test]
    fn small_differences_take_one_byte() {
        for value in -64..64 {
            let mut out = Vec::new();
            put_difference(&mut out, 1_790_000_000_000 + value, 1_790_000_000_000);
            assert_eq!(out.len(), 1);
        }
    }
}
