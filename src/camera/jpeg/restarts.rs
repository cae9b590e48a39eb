//! Restart intervals that a camera lost on the way. The markers between them count from 0 to 7 and over again, so that
//! a decoder can tell; the one that is used here does not look, and would show all that follows too far up.

/// Intervals in a row that may be missing; more of them could not be told from a camera that cannot count (libjpeg's
/// own bound).
const GAP: u8 = 2;

/// Repeats the interval before a gap. `from`: where the coded data of the only scan begins; `wanted`: how many intervals
/// the picture has.
pub fn fill_gaps(bytes: &mut Vec<u8>, from: usize, wanted: usize) {
    if wanted == 0 {
        return;
    }
    let data = bytes.get(from..).unwrap_or_default();
    let markers: Vec<usize> = markers(data).collect();
    // Where none is missing, their numbers do not matter.
    let mut missing = wanted.saturating_sub(markers.len() + 1);
    if missing == 0 {
        return;
    }
    let mut room = data.len();
    let mut filled = Vec::new();
    let (mut expected, mut begin) = (0, 0);
    for &at in &markers {
        let interval = &data[begin..at];
        filled.extend_from_slice(interval);
        let number = data[at + 1] & 7;
        let gap = number.wrapping_sub(expected) & 7;
        let cost = usize::from(gap) * (interval.len() + 2);
        let lost = (1..=GAP).contains(&gap) && usize::from(gap) <= missing && cost <= room;
        if lost {
            for ahead in 0..gap {
                filled.extend_from_slice(&[0xff, 0xd0 | ((expected + ahead) & 7)]);
                filled.extend_from_slice(interval);
            }
            missing -= usize::from(gap);
            room -= cost;
            expected = number;
        }
        filled.extend_from_slice(&data[at..at + 2]);
        expected = (expected + 1) & 7;
        begin = at + 2;
    }
    if filled.len() > begin {
        filled.extend_from_slice(&data[begin..]);
        bytes.truncate(from);
        bytes.append(&mut filled);
    }
}

/// Where restart markers are.
fn markers(data: &[u8]) -> impl Iterator<Item = usize> {
    data.windows(2)
        .enumerate()
        .filter(|(_, pair)| pair[0] == 0xff && (0xd0..=0xd7).contains(&pair[1]))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interval for each marker: one byte, its number among those that were sent.
    fn filled(markers: &[u8], wanted: usize) -> Vec<u8> {
        let mut bytes = vec![9, 9, 0];
        for (at, marker) in markers.iter().enumerate() {
            bytes.extend([0xff, 0xd0 | marker, at as u8 + 1]);
        }
        fill_gaps(&mut bytes, 2, wanted);
        assert_eq!(bytes[..2], [9, 9]);
        bytes[2..].chunks(3).map(|interval| interval[0]).collect()
    }

    #[test]
    fn lost_interval_is_the_one_before_it_again() {
        assert_eq!(filled(&[0, 1, 3, 4], 6), [0, 1, 2, 2, 3, 4]);
        assert_eq!(filled(&[2, 3], 5), [0, 0, 0, 1, 2]);
        assert_eq!(filled(&[0, 1, 2, 3, 4, 5, 6, 0, 1], 11), [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9]);
    }

    #[test]
    fn numbers_do_not_matter_where_nothing_is_missing() {
        assert_eq!(filled(&[0, 0, 0, 0, 0, 0, 0, 0], 9), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(filled(&[7, 3, 5], 4), [0, 1, 2, 3]);
    }

    #[test]
    fn gaps_that_cannot_be_are_left_alone() {
        assert_eq!(filled(&[0, 4, 5], 9), [0, 1, 2, 3], "more than two at once");
        assert_eq!(filled(&[0, 3], 4), [0, 1, 2], "more than are missing");
        assert_eq!(filled(&[], 5), [0]);
    }
}
