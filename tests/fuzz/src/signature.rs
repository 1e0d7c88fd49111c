//! A signed request, through all of the edge but its sockets.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use revwatch_core::signature::{DEFAULT_TOLERANCE_S, SignatureError, SigningKey, verify};

use crate::NOW_S;
use crate::edge::{EDGE, SECRET, STRIPE};

/// The lines of `Stripe-Signature`, an empty line, and the body. `$` in a header stands for the signature of the body
/// at the first time that the lines name.
///
/// A delivery is stored if and only if one signature is right, and its body is the one that was sent. No signature
/// arises by chance: without `$` nothing is stored.
pub fn signature(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&data[..end], &data[end + 2..]),
        None => (data, &b""[..]),
    };
    let lines: Vec<HeaderValue> = head
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(&signed(line, head, body)).ok())
        .collect();
    EDGE.with(|edge| {
        let headers = lines.iter().map(|line| ("stripe-signature", line.clone()));
        let (status, _) = edge.post(STRIPE, headers, body);
        let stored = edge.take();
        let header = lines.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let header = header.join(&b","[..]);
        let header = (!lines.is_empty()).then_some(&header[..]);
        let verified = verify(&[key()], header, body, NOW_S, DEFAULT_TOLERANCE_S);
        if status == StatusCode::OK {
            assert_eq!(verified, Ok(()), "stored without a right signature");
            assert!(head.contains(&b'$'), "a signature that was never made");
            let [delivery] = &stored[..] else {
                panic!("200 for {} deliveries", stored.len());
            };
            assert!(
                delivery.body == body,
                "the stored body is not the received one"
            );
        } else {
            assert!(stored.is_empty(), "stored, and answered {status}");
            // Then it is our clock that is behind.
            let is_from_future = matches!(verified, Err(SignatureError::FromFuture { .. }));
            assert_eq!(status.is_server_error(), is_from_future, "{status}");
        }
    });
}

fn key() -> SigningKey {
    SigningKey::new(SECRET).expect("a secret")
}

/// The line with the signature in place of `$`.
fn signed(line: &[u8], head: &[u8], body: &[u8]) -> Vec<u8> {
    if !line.contains(&b'$') {
        return line.to_vec();
    }
    let mut elements = head.split(|byte| b",\n".contains(byte));
    let time = elements.find_map(|element| element.trim_ascii().strip_prefix(b"t="));
    let signature = key().sign(&[time.unwrap_or_default(), b".", body]);
    let mut made = Vec::with_capacity(line.len() + signature.len());
    for byte in line {
        match byte {
            b'$' => made.extend_from_slice(signature.as_bytes()),
            byte => made.push(*byte),
        }
    }
    made
}
