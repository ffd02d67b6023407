//! The end of a guest's results: byte 0x1e, `UNDERLAY-RESULT `, the status in
//! decimal, byte 0x1e, newline. The control bytes keep it from being mistaken
//! for output.

const START: &[u8] = b"\x1eUNDERLAY-RESULT ";
const END: u8 = 0x1e;

/// What came before the trailer, and the status in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Results<'a> {
    /// What the guest had to say.
    pub output: &'a [u8],
    /// 0 for success, like a program's.
    pub status: u8,
}

/// The results in what a guest has sent so far, once they are complete.
pub fn parse(sent: &[u8]) -> Option<Results<'_>> {
    let at = sent.windows(START.len()).position(|w| w == START)?;
    let rest = &sent[at + START.len()..];
    let end = rest.iter().position(|&b| b == END)?;
    let digits = std::str::from_utf8(&rest[..end]).ok()?;
    let status: u64 = digits.trim().parse().ok()?;
    Some(Results {
        output: &sent[..at],
        status: u8::try_from(status).unwrap_or(u8::MAX),
    })
}

/// How many bytes of `sent` are certainly output: all but a trailer that may
/// have begun.
pub fn certain(sent: &[u8]) -> usize {
    let may_begin = |at: &usize| {
        let rest = &sent[*at..];
        let known = rest.len().min(START.len());
        rest[..known] == START[..known]
    };
    (0..sent.len()).find(may_begin).unwrap_or(sent.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_output_and_status() {
        let results = parse(b"two\nlines\n\x1eUNDERLAY-RESULT 3\x1e\n");
        assert_eq!(
            results,
            Some(Results {
                output: b"two\nlines\n",
                status: 3
            })
        );
    }

    #[test]
    fn waits_for_the_end() {
        let whole = b"x\x1eUNDERLAY-RESULT 127\x1e";
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), None, "cut at {cut}");
            assert!(certain(&whole[..cut]) <= 1);
        }
        assert_eq!(parse(whole).map(|r| r.status), Some(127));
    }

    #[test]
    fn the_byte_alone_is_output() {
        assert_eq!(certain(b"a\x1eb"), 3);
        assert_eq!(certain(b"a\x1e"), 1);
    }

    #[test]
    fn is_not_fooled_by_the_words_alone() {
        assert_eq!(parse(b"UNDERLAY-RESULT 0\n"), None);
    }

    #[test]
    fn a_status_out_of_range_is_a_failure() {
        let results = parse(b"\x1eUNDERLAY-RESULT 256\x1e\n");
        assert_eq!(results.map(|r| r.status), Some(255));
    }
}
