//! Files that are not what they should be: each fault says how to go on, in words of the user.

use super::*;

#[test]
fn no_word_of_the_parser_is_needed_to_mend_a_file() {
    let table = [
        (
            "listen = “127.0.0.1:1”\n",
            "my.toml:1:10: text must be in straight quotes",
        ),
        (
            "listen\u{a0}= \"127.0.0.1:1\"\n",
            "my.toml:1:7: a key may have letters",
        ),
        (
            "partitions = 1\npartitions = 2\n",
            "my.toml:2:1: this key or section is in the file twice",
        ),
        (
            "[slack]\n[email]\n[slack]\n",
            "my.toml:3:2: this key or section is in the file twice",
        ),
        (
            "{\"listen\": \"127.0.0.1:1\"}",
            "the file is TOML, not JSON or YAML",
        ),
        (
            "listen: 127.0.0.1:1\n",
            "a line is `key = value` or `[section]`",
        ),
        (
            "partitions = 1\r[slack]\r",
            "a line ends with a carriage return alone",
        ),
        (
            "[alerting.business_hours]\nholidays = [2026-12-25]\n",
            "my.toml:2:13: `alerting.business_hours.holidays` must be text in quotes: write \"2026-12-25\"",
        ),
        (
            "[alerting.business_hours]\nfrom = 09:00:00\n",
            "`alerting.business_hours.from` must be text in quotes: write \"09:00:00\"",
        ),
        (
            "listen = \"localhost:8080\"\n",
            "my.toml:1:10: `listen` must be an IP address and a port, such as 127.0.0.1:8080, but is \"localhost:8080\"; \
             did you mean 127.0.0.1:8080?",
        ),
    ];
    for (text, expected) in table {
        let error = load(Some(text), &[]).expect_err(text);
        assert!(
            error.contains(expected),
            "{error} should contain {expected}"
        );
        assert!(!error.contains(", expected "), "{error}");
    }
}
