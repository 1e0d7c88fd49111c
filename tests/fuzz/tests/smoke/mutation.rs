//! Inputs made of others: bytes flipped, parts spliced, numbers replaced by extremes, lists repeated.

use std::ops::Range;
use std::path::PathBuf;

use fastrand::Rng;

/// A mutation of one file of a corpus.
pub(crate) fn mutated(corpus: &[(PathBuf, Vec<u8>)], rng: &mut Rng) -> Vec<u8> {
    let any = |rng: &mut Rng| &corpus[rng.usize(..corpus.len())].1;
    let mut input = any(rng).clone();
    // Parsers refuse broken JSON and TOML early: half of the inputs keep their syntax, to reach the code behind them.
    let keeps_form = rng.bool();
    for _ in 0..rng.usize(1..=4) {
        match rng.u8(..if keeps_form { 6 } else { 12 }) {
            0..4 => replace_number(&mut input, rng),
            4 => repeat_element(&mut input, rng),
            5 => replace_word(&mut input, rng),
            6 | 7 => flip(&mut input, rng),
            8 => insert(&mut input, WORDS[rng.usize(..WORDS.len())].as_bytes(), rng),
            9 => splice(&mut input, any(rng), rng),
            10 => drop(input.drain(part(&input, rng))),
            _ => deepen(&mut input, rng),
        }
    }
    input
}

/// The bounds of what reads numbers: integers, floats, decimals, times.
const NUMBERS: [&str; 20] = [
    "0",
    "-1",
    "-0",
    "0.1",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "9200000000000000000",
    "79228162514264337593543950335",
    "0.0000000000000000000000000001",
    "1e308",
    "-1e400",
    "1e-400",
    "9007199254740993",
    "253402300800",
    "-377705116800",
    "1790000000",
    "2147483648",
    "4294967296",
];

/// What means something to some reader.
const WORDS: [&str; 16] = [
    "\u{feff}",
    "\r\n",
    "\0",
    "\u{202e}",
    "=1+1",
    "'",
    "\"",
    "\\",
    "\n",
    "|",
    "{}",
    "[[",
    "null",
    "\"id\":\"\",",
    "$",
    "\u{1b}[2J",
];

fn flip(input: &mut [u8], rng: &mut Rng) {
    for _ in 0..rng.usize(1..=8) {
        if !input.is_empty() {
            let at = rng.usize(..input.len());
            input[at] = match rng.bool() {
                true => input[at] ^ 1 << rng.u8(..8),
                false => rng.u8(..),
            };
        }
    }
}

fn insert(input: &mut Vec<u8>, text: &[u8], rng: &mut Rng) {
    let at = rng.usize(..=input.len());
    input.splice(at..at, text.iter().copied());
}

fn splice(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let (here, there) = (part(input, rng), part(other, rng));
    input.splice(here, other[there].iter().copied());
}

/// An element of a list, or a line, many times.
fn repeat_element(input: &mut Vec<u8>, rng: &mut Rng) {
    const MOST_BYTES: usize = 64 << 10;
    let starts: Vec<usize> = (0..input.len())
        .filter(|at| b",\n".contains(&input[*at]))
        .collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[rng.usize(..starts.len())];
    // To the next one of the same depth.
    let mut depth = 0;
    let length = input[start + 1..].iter().position(|byte| {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        depth < 0 || depth == 0 && *byte == input[start]
    });
    let end = length.map_or(input.len(), |length| start + 1 + length);
    let element = input[start..end].to_vec();
    let most = MOST_BYTES / element.len().max(1);
    let times = rng.usize(1..=most.clamp(1, 2000));
    input.splice(start..start, element.repeat(times));
}

/// A word by another word of the same input: a status, an id, a type, a name of a field.
fn replace_word(input: &mut Vec<u8>, rng: &mut Rng) {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.".contains(byte);
    let mut words: Vec<Range<usize>> = Vec::new();
    for (at, _) in input.iter().enumerate().filter(|(_, byte)| is_word(byte)) {
        match words.last_mut().filter(|word| word.end == at) {
            Some(word) => word.end += 1,
            None => words.push(at..at + 1),
        }
    }
    if !words.is_empty() {
        let mut any = || words[rng.usize(..words.len())].clone();
        let (here, there) = (any(), any());
        let word = input[there].to_vec();
        input.splice(here, word);
    }
}

/// An opening bracket that stands there, many times.
fn deepen(input: &mut Vec<u8>, rng: &mut Rng) {
    let brackets: Vec<usize> = (0..input.len())
        .filter(|at| b"{[".contains(&input[*at]))
        .collect();
    if !brackets.is_empty() {
        let at = brackets[rng.usize(..brackets.len())];
        let bracket = [input[at]].repeat(rng.usize(1..=300));
        input.splice(at..at, bracket);
    }
}

fn replace_number(input: &mut Vec<u8>, rng: &mut Rng) {
    let is_digit = |at: &usize| input[*at].is_ascii_digit();
    let starts: Vec<usize> = (0..input.len())
        .filter(|at| is_digit(at) && (*at == 0 || !is_digit(&(at - 1))))
        .collect();
    if !starts.is_empty() {
        let start = starts[rng.usize(..starts.len())];
        let length = input[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        let end = start + length.count();
        let number = NUMBERS[rng.usize(..NUMBERS.len())];
        input.splice(start..end, number.bytes());
    }
}

/// A part of the input, which often begins and ends where an element does.
fn part(input: &[u8], rng: &mut Rng) -> Range<usize> {
    let (from, to) = (rng.usize(..=input.len()), rng.usize(..=input.len()));
    let part = from.min(to)..from.max(to);
    if rng.u8(..4) == 0 {
        return part;
    }
    let next = |from: usize| {
        let rest = input[from..].iter();
        let found = rest.take(4096).position(|byte| b",\n{}[]&".contains(byte));
        found.map_or(input.len(), |found| from + found)
    };
    let start = next(part.start);
    // Of one or a few elements.
    let end = (0..rng.usize(1..=4)).fold(start, |end, _| next((end + 1).min(input.len())));
    start..end
}
