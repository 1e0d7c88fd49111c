//! Every way a signature is accepted or refused, over HTTP.

use crate::support::{PATH, ROTATED, SECRET, Server, event, limits, now_s, post, sign};

/// The `v1` value of a signature header.
fn tag(header: &str) -> &str {
    header.split_once(",v1=").expect("a v1").1
}

#[tokio::test]
async fn accepts_and_refuses_the_same_as_stripes_libraries() {
    let server = Server::start(limits()).await;
    let body = event("evt_1", true);
    let t = now_s();
    let at = |age: i64| {
        revwatch_core::signature::SigningKey::new(SECRET)
            .expect("a secret")
            .header(t - age, &body)
    };
    let fresh = at(0);
    let valid = tag(&fresh).to_owned();
    let rotated = tag(&sign(ROTATED, &body)).to_owned();
    let invalid = tag(&sign("whsec_other", &body)).to_owned();
    let other_body = tag(&sign(SECRET, b"{}")).to_owned();
    let table: Vec<(&str, Option<String>, &str)> = vec![
        ("one v1", Some(fresh.clone()), "stored"),
        (
            "the order of elements",
            Some(format!("v1={valid},t={t}")),
            "stored",
        ),
        (
            "both secrets of a rotation",
            Some(format!("t={t},v1={rotated},v1={valid}")),
            "stored",
        ),
        (
            "the second secret alone",
            Some(sign(ROTATED, &body)),
            "stored",
        ),
        (
            "several v1, one valid",
            Some(format!("t={t},v1={invalid},v1={valid}")),
            "stored",
        ),
        (
            "an additional v1 that is not hex",
            Some(format!("t={t},v1=potato,v1={valid}")),
            "stored",
        ),
        (
            "an additional unknown scheme",
            Some(format!("t={t},v9=x,v0={invalid},v1={valid}")),
            "stored",
        ),
        (
            "spaces after commas",
            Some(format!("t={t}, v1={valid}")),
            "stored",
        ),
        (
            "upper-case hex",
            Some(format!("t={t},v1={}", valid.to_uppercase())),
            "stored",
        ),
        // The exact tolerance is tested with the pure function; here a clock is running.
        ("almost too old", Some(at(290)), "stored"),
        ("a clock that is a little behind", Some(at(-290)), "stored"),
        (
            "a clock that is behind",
            Some(at(-400)),
            "signature_from_future",
        ),
        ("no header", None, "signature_missing"),
        (
            "an empty header",
            Some(String::new()),
            "signature_without_timestamp",
        ),
        (
            "no t",
            Some(format!("v1={valid}")),
            "signature_without_timestamp",
        ),
        (
            "an empty t",
            Some(format!("t=,v1={valid}")),
            "signature_without_timestamp",
        ),
        (
            "a t that is not a number",
            Some(format!("t=soon,v1={valid}")),
            "signature_without_timestamp",
        ),
        ("no v1", Some(format!("t={t}")), "signature_without_v1"),
        (
            "only v0",
            Some(format!("t={t},v0={valid}")),
            "signature_without_v1",
        ),
        (
            "another secret",
            Some(sign("whsec_other", &body)),
            "signature_mismatch",
        ),
        (
            "another body",
            Some(format!("t={t},v1={other_body}")),
            "signature_mismatch",
        ),
        (
            "another time",
            Some(format!("t={},v1={valid}", t - 1)),
            "signature_mismatch",
        ),
        (
            "a truncated tag",
            Some(format!("t={t},v1={}", &valid[..62])),
            "signature_mismatch",
        ),
        (
            "an empty v1",
            Some(format!("t={t},v1=")),
            "signature_mismatch",
        ),
        ("too old: a replay", Some(at(302)), "signature_too_old"),
        (
            "a giant header",
            Some("t=1,".repeat(2000)),
            "signature_unreadable",
        ),
    ];
    let mut stored = 0;
    for (case, header, expected) in table {
        let headers: Vec<String> = header
            .iter()
            .map(|value| format!("Stripe-Signature: {value}"))
            .collect();
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = server.send(&post(PATH, &headers, &body)).await;
        assert_eq!(answer.outcome(), expected, "{case}: {answer:?}");
        assert_eq!(
            answer.status,
            match expected {
                "stored" => 200,
                "signature_from_future" => 503,
                _ => 400,
            },
            "{case}"
        );
        stored += usize::from(expected == "stored");
    }
    assert_eq!(
        server.queue.stored().len(),
        stored,
        "refused events never reached the queue"
    );
}

/// A proxy may split the list, or repeat it.
#[tokio::test]
async fn a_signature_in_several_header_lines_is_one_list() {
    let server = Server::start(limits()).await;
    let body = event("evt_1", true);
    let header = sign(SECRET, &body);
    let (t, v1) = header.split_once(',').expect("two elements");
    for lines in [[t, v1], [&header, &header], ["none", &header]] {
        let lines = lines.map(|line| format!("Stripe-Signature: {line}"));
        let answer = server
            .send(&post(PATH, &[&lines[0], &lines[1]], &body))
            .await;
        assert_eq!(answer.outcome(), "stored", "{lines:?}");
    }
}

#[tokio::test]
async fn a_header_that_is_not_text_is_refused() {
    let server = Server::start(limits()).await;
    let mut request =
        b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nstripe-signature: t=1,v1=".to_vec();
    request.extend_from_slice(b"\xff\xfe\r\n\r\n{}");
    let answer = server.send(&request).await;
    assert_eq!(
        (answer.status, answer.outcome().as_str()),
        (400, "signature_unreadable")
    );
}

/// One whitespace changed, as a proxy that re-serializes JSON would do: the signature covers the
/// raw bytes.
#[tokio::test]
async fn a_reformatted_body_is_refused() {
    let server = Server::start(limits()).await;
    let body = event("evt_1", true);
    let signature = format!("stripe-signature: {}", sign(SECRET, &body));
    let reformatted = String::from_utf8(body)
        .expect("text")
        .replacen(':', ": ", 1);
    let answer = server
        .send(&post(PATH, &[&signature], reformatted.as_bytes()))
        .await;
    assert_eq!(answer.outcome(), "signature_mismatch");
}
