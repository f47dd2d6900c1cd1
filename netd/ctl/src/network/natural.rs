//! The order in which Docker lists names: numbers in them count as numbers.

use std::cmp::Ordering;

/// Compares byte by byte, but runs of digits by their value; digits come before anything else,
/// and of equal values the one with fewer zeros in front comes first.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some((first_a, rest_a)), Some((first_b, rest_b))) = (a.split_first(), b.split_first())
        else {
            return a.len().cmp(&b.len());
        };
        let order = match (first_a.is_ascii_digit(), first_b.is_ascii_digit()) {
            (true, true) => {
                let (x, y) = (number(&mut a), number(&mut b));
                x.digits
                    .len()
                    .cmp(&y.digits.len())
                    .then(x.digits.cmp(y.digits))
                    .then(x.zeros.cmp(&y.zeros))
            }
            (digit_a, digit_b) => {
                (a, b) = (rest_a, rest_b);
                digit_b.cmp(&digit_a).then(first_a.cmp(first_b))
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

struct Number<'a> {
    zeros: usize,
    digits: &'a [u8],
}

/// Takes the digits at the beginning of `text`.
fn number<'a>(text: &mut &'a [u8]) -> Number<'a> {
    let count = |text: &[u8], test: fn(&u8) -> bool| text.iter().take_while(|b| test(b)).count();
    let zeros = count(text, |b| *b == b'0');
    let (_, rest) = text.split_at(zeros);
    let (digits, rest) = rest.split_at(count(rest, u8::is_ascii_digit));
    *text = rest;
    Number { zeros, digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let sorted = ["", "0", "00", "a", "a-1", "a1", "a1b", "a01", "a2", "a02", "a10", "ab", "b"];
        let mut names = sorted;
        names.reverse();
        names.sort_by(|a, b| compare(a, b));
        // '-' is less than a letter, but digits come before it.
        let expected =
            ["", "0", "00", "a", "a1", "a1b", "a01", "a2", "a02", "a10", "a-1", "ab", "b"];
        assert_eq!(names, expected);
    }

    #[test]
    fn it_is_an_order() {
        let names = ["a1", "a01", "a1b", "a01b", "A1", "_", "a", "0a", "9", "a9", "a10", "a100"];
        for a in names {
            assert_eq!(compare(a, a), Ordering::Equal);
            for b in names {
                assert_eq!(compare(a, b), compare(b, a).reverse(), "{a} {b}");
                for c in names {
                    if compare(a, b).is_lt() && compare(b, c).is_lt() {
                        assert!(compare(a, c).is_lt(), "{a} {b} {c}");
                    }
                }
            }
        }
    }
}
